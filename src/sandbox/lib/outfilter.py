"""Puts the time in front of lines, as diskimage-builder's file of this name does.

    outfilter.py [-o FILE] [-v] [-b]

Lines of standard input go to FILE, and with -v to standard output, there with -b as they are. Lines about tracing are dropped.
"""

import argparse
import datetime
import sys


def main():
    """Copies lines until there are no more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--outfile")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("-b", "--no-timestamp", action="store_true")
    options = parser.parse_args()
    outfile = open(options.outfile, "ab", 0) if options.outfile else None
    for line in sys.stdin:
        if "set +o" in line or "xtrace" in line:
            continue
        time = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        stamped = f"{time} | {line}"
        if options.verbose:
            sys.stdout.write(line if options.no_timestamp else stamped)
            sys.stdout.flush()
        if outfile:
            outfile.write(stamped.encode("utf-8", errors="surrogateescape"))


if __name__ == "__main__":
    main()
