"""What there is to tell the one who asked: plain data, safe to store or to hand to another process."""

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Notice:
    """One package that is ready, or one job that failed, for one person.

    ``rows`` and ``size`` (bytes) are None where they are not known, ``expires`` is in UNIX seconds.
    """

    kind: Literal["ready", "failed"]
    job_id: str
    email: str
    resource_id: str
    zip_file_name: str = ""
    ckan_host: str = ""
    doi: str | None = None
    download_url: str = ""
    status_url: str = ""
    rows: int | None = None
    size: int | None = None
    sha256: str | None = None
    expires: float | None = None
    report: str | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """This as what JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Notice":
        """The notice that `to_dict` gave. A mail may outlive an upgrade, so unknown names are left out."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})
