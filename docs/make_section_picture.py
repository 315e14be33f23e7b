"""Keep a section of a report as a picture: ``python docs/make_section_picture.py REPORT.html HEADING PNG [PIXELS]``.

HEADING is the section's name in an address, as ``starting-from-a-package``; PIXELS the most of its height that is
kept. Needs Chromium.
"""

import json
import sys
import tempfile
from pathlib import Path

from make_screenshots import Browser

_WIDTH, _MOST = 1180, 900


def main(report: str, heading: str, picture: str, most: str = str(_MOST)) -> None:
    """Show the section alone, and shoot it as high as it is, or as is kept."""
    own = f"document.getElementById({json.dumps(heading)}).closest('section')"
    alone = f"""document.body && {own} && (document.body.replaceChildren({own}),
        document.body.style.padding = '0 24px', {own}.style.margin = '0', {own}.offsetHeight)"""
    address = Path(report).resolve().as_uri()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        try:
            browser.shoot(address, Path(picture), _WIDTH, _MOST, ready=alone)
            bottom = browser.run("document.querySelector('section').getBoundingClientRect().bottom")
            browser.shoot(address, Path(picture), _WIDTH, min(int(bottom) + 24, int(most)), ready=alone)
        finally:
            browser.process.terminate()
            browser.process.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
