"""Shoppers who search for something new each time: `python shoppers.py http://app:8000`, until it is stopped."""

import itertools
import sys
import time
import urllib.error
import urllib.request

PAUSE_S = 0.02


def main(shop: str) -> None:
    for number in itertools.count():
        try:
            with urllib.request.urlopen(f"{shop}/search?q=kettle+{number}", timeout=10) as answer:
                answer.read()
        except (urllib.error.URLError, OSError) as error:
            sys.stderr.write(f"the shop does not answer: {error}\n")
            time.sleep(2)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1])
