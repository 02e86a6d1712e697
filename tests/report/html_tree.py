"""HTML as a tree: what a page holds is asserted of elements, not of strings."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = frozenset({"meta", "img", "br", "link", "input", "source"})
ADDRESSES = frozenset({"src", "href", "action", "srcset", "xlink:href", "data", "poster", "style"})


class Element:
    def __init__(self, tag, attributes=()):
        self.tag, self.attributes = tag, dict(attributes)
        self.children = []

    def __getitem__(self, name):
        return self.attributes[name]

    @property
    def classes(self):
        return set((self.attributes.get("class") or "").split())

    @property
    def text(self):
        parts = (c if isinstance(c, str) else c.text for c in self.children)
        return " ".join("".join(parts).split())

    @property
    def raw(self):
        """The text with its white space, such as a script's."""
        return "".join(c if isinstance(c, str) else c.raw for c in self.children)

    def all(self, tag=None, class_=None, **attributes):
        """Elements below this one, in the order of the page."""
        found = []
        for child in self.children:
            if isinstance(child, str):
                continue
            fits = tag in (None, child.tag) and class_ in (None, *child.classes)
            wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
            if fits and all(child.attributes.get(n) == v for n, v in wanted.items()):
                found.append(child)
            found += child.all(tag, class_, **attributes)
        return found

    def one(self, tag=None, class_=None, **attributes):
        (found,) = self.all(tag, class_, **attributes)
        return found


class _Builder(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = [Element("page")]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, attrs)
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.open[-1].children.append(data)


def parse(text):
    """The tree of a page, all of whose tags are closed in order."""
    builder = _Builder()
    builder.feed(text)
    builder.close()
    (page,) = builder.open
    return page


def addresses(page):
    """What the page refers to: its links and sources, and the url() of its styles."""
    found = []
    for element in page.all():
        for name, value in element.attributes.items():
            if name == "style" or name not in ADDRESSES:
                value = value or ""
                found += [part.split(")")[0] for part in value.split("url(")[1:]]
            else:
                found.append(value)
    style = page.one("style").raw
    assert "@import" not in style
    return found + [part.split(")")[0] for part in style.split("url(")[1:]]


def check_table(table):
    """Every row fills the same columns, and every header says what it heads."""
    widths = {
        sum(int(cell.attributes.get("colspan", 1)) for cell in row.all("th") + row.all("td"))
        for row in table.all("tr")
    }
    assert len(widths) == 1, widths
    assert all("scope" in head.attributes for head in table.all("th"))
    assert table.all("caption")
