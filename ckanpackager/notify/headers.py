"""Headers written so that every mail program reads them as they were.

Python's own folding of a text with letters outside ASCII loses the space between some words, and doubles
others (seen in 3.11 to 3.13); `email.header.Header` does neither.
"""

from email.header import Header
from email.policy import EmailPolicy
from typing import Any


class MailPolicy(EmailPolicy):
    """How our mails are written."""

    def fold(self, name: str, value: Any) -> str:
        """The lines of a header. *value* is the object that the message holds for it."""
        if name == "Subject" and not value.isascii():
            words = Header(value, "utf-8", self.max_line_length, name)
            return f"{name}: {words.encode(linesep=self.linesep)}{self.linesep}"
        return str(super().fold(name, value))

    def fold_binary(self, name: str, value: Any) -> bytes:
        return self.fold(name, value).encode("utf-8" if self.utf8 else "ascii", "surrogateescape")


# A server that knows no 8BITMIME must be able to take the body, so letters outside ASCII are encoded there.
MAIL_POLICY = MailPolicy(linesep="\r\n", cte_type="7bit")
