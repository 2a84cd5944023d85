"""The five applications: the columns that show Clerk's user, and the app's own columns and child tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sync_service.mapping.table import TableMapping
from sync_service.mapping.toml import parse_mapping

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One application.

    `found`: the table exists before `migrate`. `children`: statements that insert a row for the user $1 into each child
    table. `own`: the app's columns with their defaults (...: any value). `app_write`: a column and the value that the
    app writes to it. `columns`: the mapped columns with the field of Clerk's user.
    """

    name: str
    folder: str
    found: bool = False
    children: Mapping[str, str]
    own: Mapping[str, Any] = field(default_factory=dict)
    app_write: tuple[str, Any] | None = None
    columns: Mapping[str, str]
    no_email: str | None = None
    names_cut_at: int | None = None

    @property
    def mapping(self) -> TableMapping:
        """The mapping in its `sync.toml`."""
        return parse_mapping((FOLDER / self.folder / "sync.toml").read_text())

    def sql(self, file: str) -> str:
        """Return the content of one of its SQL files, or an empty text without the file."""
        path = FOLDER / self.folder / file
        return path.read_text() if path.exists() else ""

    def map_user(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the expected values of the mapped columns, as `to_jsonb` prints them."""
        return {column: self._map_column(source, data) for column, source in self.columns.items()}

    def _map_column(self, source: str, data: Mapping[str, Any]) -> Any:
        email = _find_primary_email(data)
        if source in {"first_name", "last_name"}:
            return data[source][: self.names_cut_at]
        if source == "full_name":
            return f"{data['first_name']} {data['last_name']}"
        if source == "email":
            return email["email_address"] if email else self.no_email and self.no_email.format(data["id"])
        if source == "verified":
            return bool(email and (email["verification"] or {}).get("status") == "verified")
        field_name, _, local = source.partition(" ")
        if field_name.endswith("_at"):
            moment = datetime.fromtimestamp(data[field_name] / 1000, tz=UTC)
            return (moment.replace(tzinfo=None) if local else moment).isoformat()  # a timestamp without a zone is UTC
        return data.get(source)

    @property
    def email_column(self) -> str:
        """The name of the column with the email."""
        return next(column for column, source in self.columns.items() if source == "email")


def _find_primary_email(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = data["primary_email_address_id"]
    return next((entry for entry in data["email_addresses"] if wanted and entry["id"] == wanted), None)


_MUSIC: dict[str, Any] = {
    "folder": "music_chat",
    "children": {
        "chat_messages": "insert into chat_messages (clerk_id, role, content) values ($1, 'user', 'more jazz')",
        "message_feedback": "insert into message_feedback (clerk_id, rating) values ($1, 1)",
        "track_likes": "insert into track_likes (clerk_id) values ($1)",
    },
    "columns": {
        "name": "full_name",
        "email": "email",
        "created_at": "created_at",
        "updated_at": "updated_at",
    },
}

MUSIC_CREATED = Shape(name="music_chat-created", **_MUSIC)
MUSIC_FOUND = Shape(name="music_chat-found", found=True, **_MUSIC)

_KEY = "(select id from users where {} = $1)"
_CAREER_KEY = _KEY.format("clerk_user_id")
_ONBOARDING_KEY = _KEY.format("clerk_id")

CAREER = Shape(
    name="career",
    folder="career",
    children={
        "profiles": f"insert into profiles (user_id, bio) values ({_CAREER_KEY}, 'bio')",
        "skills": f"insert into skills (user_id, name) values ({_CAREER_KEY}, 'algebra')",
        "messages": f"with c as (insert into conversations (user_id) values ({_CAREER_KEY}) returning id, user_id)"
        " insert into messages (user_id, conversation_id, body) select user_id, id, 'hello' from c",
    },
    own={"headline": "", "is_coach": False, "password_hash": None, "joined_on": ...},
    app_write=("headline", "Coach"),
    columns={"email": "email", "first_name": "first_name", "last_name": "last_name"},
    names_cut_at=100,
)

TIERS = Shape(
    name="tiers",
    folder="tiers",
    children={"rate_limits": "insert into rate_limits (user_id) values ($1)"},
    own={"tier": "FREE"},
    app_write=("tier", "PRO"),
    columns={
        "email": "email",
        "first_name": "first_name",
        "last_name": "last_name",
        "image_url": "image_url",
        "created_at": "created_at local",
        "updated_at": "updated_at local",
    },
    no_email="{}@users.invalid",
)

ONBOARDING = Shape(
    name="onboarding",
    folder="onboarding",
    children={
        "user_profiles": f"insert into user_profiles (user_id, clerk_id) values ({_ONBOARDING_KEY}, $1)",
        "user_interactions": "insert into user_interactions (user_id, clerk_id, kind, ended_at)"
        f" values ({_ONBOARDING_KEY}, $1, 'view', now() + interval '3 s')",
        "user_results": f"insert into user_results (user_id, clerk_id, score) values ({_ONBOARDING_KEY}, $1, 75)",
        "user_sessions": "insert into user_sessions (user_id, clerk_id, session_id)"
        f" values ({_ONBOARDING_KEY}, $1, 'sess_' || $1)",
    },
    own={"created_at": ..., "updated_at": ...},
    app_write=("updated_at", datetime(2020, 1, 1, tzinfo=UTC)),
    columns={
        "email": "email",
        "email_verified": "verified",
        "first_name": "first_name",
        "last_name": "last_name",
        "image_url": "image_url",
    },
    no_email="{}@users.invalid",
    names_cut_at=100,
)

PERSONA = Shape(
    name="persona_chat",
    folder="persona_chat",
    children={
        "rate_limits": "insert into rate_limits (user_id) values ($1)",
        "conversations": "insert into conversations (user_id) values ($1)",
        "messages": "insert into messages (conversation_id, author, content)"
        " select id, 'user', 'hello' from conversations where user_id = $1",
    },
    own={"persona": {"mood": "calm"}, "joined_at": ...},
    app_write=("persona", '{"mood": "wild"}'),
    columns={"email": "email", "display_name": "full_name"},
)

SHAPES = (MUSIC_CREATED, MUSIC_FOUND, CAREER, TIERS, ONBOARDING, PERSONA)
