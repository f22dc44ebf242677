"""Logging for programs that hooks call."""

import logging
import os


def setup():
    """Sends messages to standard error; all of them if DIB_DEBUG_TRACE says so."""
    trace = os.environ.get("DIB_DEBUG_TRACE", "0")
    level = logging.DEBUG if trace.isdigit() and int(trace) > 0 else logging.INFO
    logging.basicConfig(level=level, format="%(levelname)s %(name)s %(message)s")
