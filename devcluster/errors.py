"""What can go wrong.

DevclusterError
├── CommandError       a program that was run ended with an error; its output is in the message
├── MissingToolError   something is not there and cannot be installed here
└── ClusterError       the cluster is not in the state that was asked for
"""


class DevclusterError(Exception):
    """Base of all errors of this package; the message says what to do."""


class CommandError(DevclusterError):
    """A program ended with an error."""

    def __init__(self, command: list[str], code: int, output: str) -> None:
        self.command = command
        self.code = code
        self.output = output
        tail = "\n".join(output.strip().splitlines()[-25:])
        super().__init__(f"{' '.join(command[:6])} … ended with {code}:\n{tail}")


class MissingToolError(DevclusterError):
    """A tool is neither there nor can it be had."""


class ClusterError(DevclusterError):
    """The cluster is not as it should be."""
