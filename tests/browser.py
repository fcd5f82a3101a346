"""`python -m tests.browser`: make sure that a Chromium for the console's test is there.

A Chromium on the PATH is used as it is. Without one, Debian's package is installed where that is
possible, else Playwright downloads its own.
"""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """The path of a Chromium on this machine, if there is one outside Playwright's own folder."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def main() -> None:
    if find():
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet = ["apt-get", "-qq", "-o=Dpkg::Use-Pty=0"]
        subprocess.run([*quiet, "update"], check=False, env=environment)
        subprocess.run(
            [*quiet, "install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
            check=False,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
    if not find():
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)


if __name__ == "__main__":
    main()
