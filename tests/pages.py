"""HTML pages of the programs, read as a browser would."""

import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {'meta', 'img', 'br', 'link', 'input', 'hr'}


class Checked(HTMLParser):
    """Collects tags and texts, and checks that every tag is closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.attributes, self.texts = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def check_self_contained(page):
    """Check that a page has no scripts and loads nothing; return what Checked collects."""
    found = Checked(page)
    assert page.startswith('<!DOCTYPE html>')
    tags = [tag for tag, _ in found.attributes]
    assert not {*tags} & {'script', 'link', 'iframe', 'object'}
    for tag, attributes in found.attributes:
        assert not [name for name in attributes if name in ('href', 'srcset') or name[:2] == 'on']
        if tag == 'img':
            assert attributes['src'].startswith('data:image/')
            assert attributes['alt']
    policies = [a['content'] for tag, a in found.attributes if a.get('http-equiv')]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not re.search(r'https?:|url\(', page)
    return found


def sections(path='page/index.html'):
    """The figures of each heading: the texts under them, and how many pictures they have."""
    page = Path(path).read_text(encoding='utf-8')
    check_self_contained(page)
    found = {}
    for part in page.split('<h2>')[1:]:
        heading, _, rest = part.partition('</h2>')
        figures = re.findall(r'<figure>(.*?)</figure>', rest, re.DOTALL)
        found[heading] = [(''.join(Checked(f).texts), f.count('<img')) for f in figures]
    return found


def text_of(path='page/index.html'):
    return '\n'.join(Checked(Path(path).read_text(encoding='utf-8')).texts)
