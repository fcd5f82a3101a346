"""What the starter base knows: its topics, the ways to ask about them and the answers.

Pure data. `starter_corpus` turns it into conversations. The words of the four support intents
(Account Access, Fraud Report, Transaction Dispute, General Inquiry) all occur here or in
`starter_corpus`, because an adapter can only emit tokens that the base has met.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """Something people want to do: its names, where it is done, how, and how long it takes."""

    phrasings: tuple[str, ...]
    page: str
    answer: str
    duration: str


TOPICS = (
    Topic(
        ("reset my password", "change my password", "get a new password", "recover my password"),
        "sign in",
        "You can reset your password from the sign in page. Choose Forgot password and follow the"
        " steps in the email.",
        "a few minutes",
    ),
    Topic(
        ("update my email address", "change my email", "use a different email"),
        "Settings",
        "Open the Settings page, choose Profile, and enter the new email address. We will send a"
        " message to confirm it.",
        "a few minutes",
    ),
    Topic(
        ("change my phone number", "update my phone number", "add a new phone number"),
        "Settings",
        "Open the Settings page, choose Profile, and enter the new phone number. A code will be"
        " sent to confirm it.",
        "a few minutes",
    ),
    Topic(
        ("open an account", "create an account", "sign up", "start a new account"),
        "home",
        "Choose Sign up on the home page, fill in your details, and confirm your email address.",
        "about ten minutes",
    ),
    Topic(
        ("close my account", "delete my account", "cancel my account"),
        "Settings",
        "You can close your account on the Settings page under Account. Please download your"
        " records first.",
        "two days",
    ),
    Topic(
        ("activate my card", "turn on my new card", "start using my card"),
        "Cards",
        "Open the Cards page, choose your card, and press Activate.",
        "a few minutes",
    ),
    Topic(
        ("order a new card", "replace my card", "get a replacement card"),
        "Cards",
        "Open the Cards page and choose Replace card. A new card arrives in five to seven days.",
        "five to seven days",
    ),
    Topic(
        ("block my card", "freeze my card", "stop my card", "lock my card"),
        "Cards",
        "Open the Cards page, choose your card, and press Freeze. No one can pay with it until you"
        " turn it on again.",
        "a few seconds",
    ),
    Topic(
        ("change my PIN", "set a new PIN", "reset my PIN"),
        "Cards",
        "Open the Cards page, choose your card, and select Change PIN.",
        "a few minutes",
    ),
    Topic(
        ("raise my spending limit", "increase my card limit", "change my limit"),
        "Cards",
        "Open the Cards page and choose Limits. Some changes need a short review.",
        "one day",
    ),
    Topic(
        ("track my order", "see where my order is", "follow my package", "check my delivery"),
        "Orders",
        "Open the Orders page and choose Track. You will see the latest delivery status there.",
        "a few seconds",
    ),
    Topic(
        ("cancel my order", "stop my order", "cancel a purchase"),
        "Orders",
        "Open the Orders page and choose Cancel. You can cancel an order until it has been"
        " shipped.",
        "one day",
    ),
    Topic(
        ("return an item", "send something back", "return a product", "return my order"),
        "Orders",
        "Open the Orders page, choose the item, and select Return. You can return items within"
        " thirty days.",
        "about a week",
    ),
    Topic(
        ("get a refund", "ask for a refund", "request my money back", "be refunded"),
        "Orders",
        "Open the Orders page and choose Request refund. Refunds usually take three to five days.",
        "three to five days",
    ),
    Topic(
        ("change my address", "update my delivery address", "use a new address"),
        "Settings",
        "Open the Settings page, choose Addresses, and add the new address before your next order.",
        "a few minutes",
    ),
    Topic(
        ("download a statement", "see my statement", "get my bank statement", "find a statement"),
        "Documents",
        "Open the Documents page and choose Statements. You can download each month as a file.",
        "a few seconds",
    ),
    Topic(
        ("send money", "make a transfer", "transfer money to a friend", "pay someone"),
        "Payments",
        "Open the Payments page, choose Transfer, enter the amount and the name, and confirm.",
        "one or two days",
    ),
    Topic(
        ("add money to my account", "top up my balance", "make a deposit"),
        "Payments",
        "Open the Payments page and choose Add money. You can use a card or a bank transfer.",
        "a few minutes",
    ),
    Topic(
        ("dispute a charge", "dispute a payment", "report a wrong charge", "open a dispute"),
        "Payments",
        "Open the Payments page, choose the charge, and press Dispute. We will share the result in"
        " ten days.",
        "about ten days",
    ),
    Topic(
        ("turn on alerts", "get notifications", "set up alerts"),
        "Settings",
        "Open the Settings page, choose Notifications, and turn on the alerts you want.",
        "a few seconds",
    ),
    Topic(
        ("use a gift card", "redeem a voucher", "apply a discount code"),
        "checkout",
        "Enter the code on the checkout page and press Apply. The new total will be shown.",
        "a few seconds",
    ),
    Topic(
        ("contact support", "talk to an agent", "speak to a person", "call you"),
        "Contact",
        "Our support team is available every day from nine to five. You can use the Contact page"
        " to reach them.",
        "a few minutes",
    ),
)

# What goes wrong, and what to do about it.
PROBLEMS = {
    "app": "Please update the app to the latest version and restart your phone.",
    "card": "Please check that the card is active and that you have enough balance.",
    "account": "Please sign out, sign in again, and check your details.",
    "password": "Please reset your password from the sign in page.",
    "payment": "Please check your balance and try the payment again in a few minutes.",
    "order": "Please open the Orders page to see the latest status.",
    "refund": "Please allow three to five days for the refund to arrive.",
    "delivery": "Please check the tracking page for the latest status.",
    "login": "Please check your email address and reset your password if needed.",
    "transfer": "Please check the name and the account number, then try again.",
    "statement": "Please open the Documents page and try the download again.",
}

# Complaints with one right next step; each tuple of messages shares its answer.
COMPLAINTS = (
    (
        (
            "Someone stole my card.",
            "My card was stolen.",
            "Someone is using my card.",
            "I think my card was copied.",
            "Someone used my card without asking.",
            "There is fraud on my account.",
            "My wallet was stolen.",
            "I lost my card.",
        ),
        "Please freeze the card on the Cards page right away and report the fraud to our support"
        " team.",
    ),
    (
        (
            "I forgot my password.",
            "I am locked out.",
            "I cannot sign in.",
            "My account is locked.",
            "The app does not accept my password.",
            "I can't log in to my account.",
            "I never get the code to sign in.",
        ),
        "Please choose Forgot password on the sign in page. We will send a reset link to your"
        " email address.",
    ),
    (
        (
            "I was charged twice.",
            "There is a charge I don't recognize.",
            "I don't know this payment.",
            "The amount is wrong.",
            "I was charged too much.",
            "I canceled the order but I was charged.",
            "There is a double payment.",
        ),
        "Please open the Payments page, choose the charge, and press Dispute. The merchant will be"
        " asked about it.",
    ),
)

FACTS = {
    "How many days are in a week?": "There are seven days in a week.",
    "How many months are in a year?": "There are twelve months in a year.",
    "What is a refund?": "A refund is money that is returned to you after a purchase.",
    "What is a password?": "A password is a secret word that protects your account.",
    "What is a bank?": "A bank is a company that keeps money safe and lends money.",
    "What is a PIN?": "A PIN is a secret number that protects your card.",
    "What is interest?": "Interest is money that is paid for borrowing or saving money.",
    "What is a budget?": "A budget is a plan for how to spend and save money.",
    "What is a debit card?": "A debit card takes money directly from your account when you pay.",
    "What is a credit card?": "A credit card lets you borrow money to pay and return it later.",
    "What is a loan?": "A loan is money that you borrow and pay back over time.",
    "What is a receipt?": "A receipt is a record that shows what you paid for.",
    "What is a transfer?": "A transfer moves money from one account to another.",
    "What is a statement?": "A statement is a list of the payments in your account.",
    "What is fraud?": "Fraud is when someone uses lies to take money or data.",
    "What is a fee?": "A fee is a small price that is charged for a service.",
    "What are your hours?": "We are open every day from nine to five.",
    "What is the sun?": "The sun is a star that gives us light and heat.",
    "What is water?": "Water is a clear liquid that all living things need.",
    "What do bees make?": "Bees make honey.",
    "What is a dispute?": "A dispute is a request to check a transaction or a charge that looks"
    " wrong.",
    "What is an inquiry?": "An inquiry is a general question.",
    "What is a report?": "A report is a message that says what happened.",
    "What is an intent?": "An intent is the reason for a message.",
    "What is a merchant?": "A merchant is a shop or a company that takes your payment.",
    "What are the last 4 digits?": "The last 4 digits are the final numbers on your card. You may"
    " be asked to confirm them.",
    "What is a transaction?": "A transaction is one payment or transfer on your account.",
    "What is account access?": "Account access means that you can sign in and use your account"
    " right away.",
    "What is a reset link?": "A reset link is sent to your email address so that you can get back"
    " into your account.",
    "How do I keep my account safe?": "To secure your account, use a strong password and share it"
    " with no one.",
    "What does a support agent do?": "A support agent will help with your question and find the"
    " right answer. They may ask you to tell them a little more.",
    "What happens after a fraud report?": "After a fraud report the card is stopped and a new card"
    " is sent. I'm sorry if this happened to you.",
}

HOW_TO_ASK = (
    "How do I {}?",
    "How can I {}?",
    "I want to {}.",
    "I need to {}.",
    "Can you help me {}?",
    "What is the way to {}?",
    "I would like to {}.",
    "Could you tell me how to {}?",
    "I'm trying to {}.",
    "Is it possible to {}?",
    "Where can I {}?",
    "Show me how to {}.",
)
PROBLEM_TO_REPORT = (
    "My {} is not working.",
    "I have a problem with my {}.",
    "There is an issue with my {}.",
    "Something is wrong with my {}.",
    "My {} has a problem.",
    "I cannot use my {}.",
    "My {} stopped working.",
)
OFF_TOPIC = (
    "Tell me about {}.",
    "What do you think about {}?",
    "Can you explain {}?",
    "Who invented {}?",
    "Write a poem about {}.",
    "Write a story about {}.",
    "Tell me a joke about {}.",
    "Do you like {}?",
    "Why are {} so popular?",
    "What is the best thing about {}?",
    "How do {} work?",
    "When did {} begin?",
    "Where do {} come from?",
    "Give me some facts about {}.",
    "I love {}.",
    "What is the meaning of {}?",
    "How many {} are there?",
    "Translate {} into French.",
    "Which {} are the best?",
    "Help me with {}.",
    "Is it true that {} are dangerous?",
    "Who is the best at {}?",
    "I want to learn about {}.",
    "Write some code for {}.",
    "Explain {} and {} to me.",
    "Are {} better than {}?",
    "What is the difference between {} and {}?",
)
NOT_SURE = (
    "I am not sure about that. I can answer questions about accounts, cards, orders and payments."
)

OPENINGS = (
    "", "", "", "", "", "", "Hi, ", "Hello, ", "Hey, ", "Hi there, ", "Good morning, ",
    "Please help, ", "Quick question: ", "Excuse me, ",
)  # fmt: skip
CLOSINGS = (
    "", "", "", "", " Thanks.", " Thank you.", " Please help.", " Can you help?", " Please advise.",
)  # fmt: skip
READY = (
    "Of course.", "Sure.", "I can help with that.", "Happy to help.", "Thanks for asking.",
    "Thank you for reaching out.", "",
)  # fmt: skip
SORRY = (
    "I'm sorry to hear that.", "I'm sorry about that.", "I understand.", "That sounds frustrating.",
)  # fmt: skip
FAREWELLS = (
    "", "", "Let me know if you need anything else.", "Is there anything else I can help with?",
    "Please tell me if you have more questions.",
)  # fmt: skip
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a customer support assistant.",
    "You answer questions politely.",
)
LABELS = (
    "Refund", "Order", "Card", "Account", "General", "Fraud", "Dispute", "Access", "Report",
    "Transaction", "Inquiry", "Payment", "Intent", "Question",
)  # fmt: skip
