"""Numbers with all their digits."""

from decimal import Decimal

# PostgreSQL's numeric has up to 131,072 digits before the point and 16,383 after it. What goes beyond that
# was never one, and keeps its exponent: written out, a few bytes could fill the memory.
_MOST_DIGITS = 131_072


def plain(number: Decimal) -> str:
    """``number`` without an exponent, as PostgreSQL writes it."""
    return f"{number:f}" if abs(number.adjusted()) <= _MOST_DIGITS else str(number)
