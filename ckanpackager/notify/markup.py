"""The HTML part of a mail whose settings have no HTML of their own: made from the text, and saying the same.

Mail readers know few styles and no style sheets, so everything is inline and stands in a table. No word is
added to the admin's text, which may be in any language.
"""

import re
from html import escape

_URL = re.compile(r"https?://[^\s<>\"]+")
_AFTER_URL = ".,;:!?'"  # ends the sentence round a URL, not the URL

_FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_PAGE = """<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>{title}</title>
</head>
<body style="margin:0;padding:0;background:#eef1f4">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" bgcolor="#eef1f4">
<tr><td align="center" style="padding:24px 12px">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" bgcolor="#ffffff" \
style="max-width:600px;border-top:4px solid #17695b;border-radius:4px">
<tr><td style="padding:28px 32px 12px;{font};font-size:16px;line-height:1.55;color:#1f2933;text-align:start;\
overflow-wrap:break-word;word-break:break-word">
{content}
</td></tr>
</table>
</td></tr>
</table>
</body>
</html>
"""
_PARAGRAPH = '<p dir="auto" style="margin:0 0 16px">{content}</p>'
_LINK = '<a href="{url}" style="color:#17695b">{url}</a>'
_BUTTON = """<table role="presentation" cellpadding="0" cellspacing="0" border="0" style="margin:4px 0 8px">
<tr><td bgcolor="#17695b" style="border-radius:4px"><a href="{url}" style="display:inline-block;\
padding:12px 22px;{font};font-weight:bold;color:#ffffff;\
text-decoration:none">&#8681;&nbsp; {label}</a></td></tr>
</table>
<p style="margin:0 0 16px;font-size:13px"><a href="{url}" style="color:#5f6c7b">{url}</a></p>"""


def from_text(text: str, *, title: str, download_url: str, label: str) -> str:
    """A page that reads like *text*, with its URLs as links.

    A line that is nothing but *download_url* becomes a button, and *label* is what it says.
    """
    blocks = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines: list[str] = []
        for line in paragraph.split("\n"):
            if line.strip() == download_url != "":
                blocks += [
                    *_paragraph(lines),
                    _BUTTON.format(url=escape(download_url), label=escape(label), font=_FONT),
                ]
                lines = []
            else:
                lines.append(_linked(line))
        blocks += _paragraph(lines)
    return _PAGE.format(title=escape(title), content="\n".join(blocks), font=_FONT)


def _paragraph(lines: list[str]) -> list[str]:
    return [_PARAGRAPH.format(content="<br>\n".join(lines))] if lines else []


def _linked(line: str) -> str:
    """*line* escaped, its URLs made into links."""
    parts = []
    end = 0
    for found in _URL.finditer(line):
        url = _without_punctuation(found[0])
        parts += [escape(line[end : found.start()]), _LINK.format(url=escape(url))]
        end = found.start() + len(url)
    return "".join([*parts, escape(line[end:])])


def _without_punctuation(url: str) -> str:
    """*url* less what belongs to the sentence: ``(see http://x.org/a_(b)).`` ends at the b's bracket."""
    while url[-1] in _AFTER_URL or (url[-1] in ")]" and _closes_nothing(url)):
        url = url[:-1]
    return url


def _closes_nothing(url: str) -> bool:
    opening = {")": "(", "]": "["}[url[-1]]
    return url.count(url[-1]) > url.count(opening)
