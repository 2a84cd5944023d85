"""Names of tables and columns: their words, and the words that give them a meaning (pure)."""

import re

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z]|[^A-Za-z]|$)|[A-Z]?[a-z]+|[0-9]+")


def parse_words(text: str) -> frozenset[str]:
    """Return the words of a list."""
    return frozenset(text.split())


# Words that grant rights. A new user gets the value with the fewest of them.
RIGHTS = parse_words("role roles admin superuser staff moderator permission permissions scope scopes owner root")
CATEGORIES = parse_words(
    "role roles status type kind plan tier level locale language lang timezone tz zone country currency theme provider"
    " source visibility scope permission permissions"
)
LANGUAGES = parse_words("locale language lang")
ORGANIZATIONS = parse_words(
    "org orgs organization organizations organisation organisations team teams workspace workspaces company companies"
    " tenant tenants plan plans subscription subscriptions"
)


_TIME_WORDS = parse_words("at on date time datetime timestamp utc ts ms gmt")


def normalize(name: str) -> str:
    """Return the name in lower case without separators: `clerk_user_id` and `clerkUserId` are the same name."""
    return re.sub(r"[_\s-]", "", name).lower()


def split_words(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case, of snake case and of camel case."""
    return tuple(word.lower() for word in _WORD.findall(name))


def strip_time_words(name: str) -> str:
    """Return the name without the words that only say that it is a time: of `CreatedOnUtc`, `created`."""
    return "".join(word for word in split_words(name) if word not in _TIME_WORDS)


def has_word(name: str, words: frozenset[str]) -> bool:
    """Return whether one of the name's words is in the set."""
    return not words.isdisjoint(split_words(name))
