"""What is found wrong with a ledger."""

from dataclasses import dataclass

SEE_AUDIT = ": run vmstate audit"  # for whoever came upon it by reading something else


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as claimed; `seq` is the receipt it is about, if it is about one."""

    seq: int | None
    what: str

    def __str__(self) -> str:
        return self.what if self.seq is None else f"receipt {self.seq}: {self.what}"
