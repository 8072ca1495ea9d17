"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medisync.access.permissions import GRANTS, Permission, Role

Method = Literal["token", "cookie", "external"]
Audience = Literal["released", "full"]


@dataclass(frozen=True)
class Principal:
    """A visitor who has proved who they are; ``method`` says how."""

    name: str
    role: Role
    method: Method
    session_id: str
    must_change_password: bool = False

    def may(self, permission: Permission) -> bool:
        """Whether the role grants it. Whoever must change the password first may do nothing else."""
        return not self.must_change_password and permission in GRANTS[self.role]

    @property
    def audience(self) -> Audience:
        """Which form of a result this visitor gets. API, stream, pages and downloads all ask here."""
        return "full" if self.may(Permission.READ_FULL) else "released"
