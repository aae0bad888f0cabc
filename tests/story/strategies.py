"""Stories made up by hypothesis: any printable text in any script, also text that looks like YAML, JSON or HTML."""

from hypothesis import strategies as st

from storyjax.story import Character, Frame, Story

_TRICKY = [
    "yes",
    "null",
    "~",
    "1984",
    "- a",
    "a: b",
    "#",
    "'",
    '"',
    "{x}",
    "[",
    "&amp;",
    "<b>",
    "</script>",
    "{{ 7*7 }}",
    "{% if",
    "\\n",
]


def _whole(text: str) -> str:
    return " ".join(text.split())


texts = st.one_of(
    st.sampled_from(_TRICKY),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60),
    st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12), max_size=30).map(" ".join),
).map(_whole)
sentences = texts.filter(bool)
casts = st.lists(
    st.builds(Character, name=sentences, description=texts), max_size=3, unique_by=lambda c: c.name.casefold()
)
stories = st.builds(
    Story,
    frames=st.lists(st.builds(Frame, sentences), min_size=1, max_size=4).map(tuple),
    title=texts,
    style=texts,
    cast=casts.map(tuple),
)
