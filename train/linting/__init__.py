"""What ruins a fine-tune and can be seen in its data, and what can be mended of it.

Needs no model: rules about tokens ask a counter that they are given.
"""
