"""The objects of Clerk that a table of the app can show, with the types of their events (pure).

Each one follows the same rules: `updated_at` orders its snapshots, and its deletion is final. An object with parents
waits for them. The types are from Clerk's OpenAPI file for webhooks.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parent:
    """The object on which another one depends. `path` is the place of its ID in the JSON of the child."""

    entity: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entity:
    """One kind of object.

    `section` is its table in `sync.toml`, `id_key` the key of the column with its ID there. `deletion` is the type of
    the event that deletes it. Clerk has none for sessions: the service deletes them with their user, and by age.
    """

    name: str
    section: str
    id_key: str
    snapshots: tuple[str, ...]
    deletion: str
    parents: tuple[Parent, ...] = ()


USER = Entity("user", "users", "clerk_id", ("user.created", "user.updated"), "user.deleted")
ORGANIZATION = Entity(
    "organization",
    "organizations",
    "organization_id",
    ("organization.created", "organization.updated"),
    "organization.deleted",
)
SESSION = Entity(
    "session",
    "sessions",
    "session_id",
    ("session.created", "session.pending", "session.ended", "session.removed", "session.revoked"),
    "session.deleted",
    (Parent("user", ("user_id",)),),
)
MEMBERSHIP = Entity(
    "membership",
    "memberships",
    "membership_id",
    ("organizationMembership.created", "organizationMembership.updated"),
    "organizationMembership.deleted",
    (Parent("organization", ("organization", "id")), Parent("user", ("public_user_data", "user_id"))),
)

# Parents come before their children.
ENTITIES: Mapping[str, Entity] = {entity.name: entity for entity in (USER, ORGANIZATION, SESSION, MEMBERSHIP)}

DELETION_TYPES = tuple(entity.deletion for entity in ENTITIES.values())

ENTITY_BY_TYPE: Mapping[str, Entity] = {
    event_type: entity for entity in ENTITIES.values() for event_type in (*entity.snapshots, entity.deletion)
}
