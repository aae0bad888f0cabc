"""What `sbatch --test-only` would say of a job script's options, from the option list of its manual (Slurm 24.05)."""

import re
import shlex

_NUMBER = r"[1-9]\d*"
_NAME = r"[A-Za-z0-9][\w.+-]*"
_NAMES = rf"{_NAME}(,{_NAME})*"
_SIGNAL = r"(HUP|INT|QUIT|TERM|USR1|USR2|CONT|\d+)"

# Long options that take a value, with the grammar of the value; None for those without.
OPTIONS: dict[str, str | None] = {
    "account": _NAME,
    "array": r"[\d,%:-]+",
    "begin": r".+",
    "chdir": r"/.*",
    "comment": r".*",
    "constraint": r"[\w|&*\[\]()@-]+",
    "cpus-per-gpu": _NUMBER,
    "cpus-per-task": _NUMBER,
    "dependency": r"singleton|(after|afterok|afterany|afternotok)(:\d+)+",
    "error": r".+",
    "exclude": r".+",
    "exclusive": None,
    "export": r".+",
    "gpus": rf"({_NAME}:)?{_NUMBER}",
    "gpus-per-node": rf"({_NAME}:)?{_NUMBER}",
    "gpus-per-task": rf"({_NAME}:)?{_NUMBER}",
    "gres": r".+",
    "job-name": r".+",
    "mail-type": _NAMES,
    "mail-user": r".+",
    "mem": r"\d+[KMGT]?",
    "mem-per-cpu": r"\d+[KMGT]?",
    "nodelist": r".+",
    "nodes": rf"{_NUMBER}(-{_NUMBER})?",
    "no-requeue": None,
    "ntasks": _NUMBER,
    "ntasks-per-node": _NUMBER,
    "open-mode": "append|truncate",
    "output": r"[^%]*(%(%|\d*[AaJjNnstuxbWq])[^%]*)*",
    "partition": _NAMES,
    "qos": _NAME,
    "requeue": None,
    "reservation": _NAMES,
    "signal": rf"([RB]{{1,2}}:)?{_SIGNAL}(@\d{{1,5}})?",
    "time": r"\d+(:\d{2}){0,2}|\d+-\d{1,2}(:\d{2}){0,2}",
}


def options(script: str) -> dict[str, str]:
    """The options that sbatch takes from a script: those before its first command."""
    found: dict[str, str] = {}
    for line in _lines_before_the_first_command(script):
        if line.startswith("#SBATCH"):
            for word in shlex.split(line.removeprefix("#SBATCH"), comments=True):
                name, _, value = word.removeprefix("--").partition("=")
                found[name] = value
    return found


def complaints(script: str) -> list[str]:
    """Why sbatch would refuse the script or overlook a part of it."""
    wrong = (
        [] if script.startswith("#!") else ["this does not look like a batch script: the first line must start with #!"]
    )
    if "\r\n" in script:
        wrong.append("batch script contains DOS line breaks")
    for name, value in options(script).items():
        grammar = OPTIONS.get(name, "")
        if name not in OPTIONS:
            wrong.append(f"unrecognized option '--{name}'")
        elif grammar is None and value:
            wrong.append(f"option '--{name}' doesn't allow an argument")
        elif grammar is not None and not re.fullmatch(grammar, value):
            wrong.append(f"invalid argument '{value}' of --{name}")
    taken = len(re.findall(r"^#SBATCH", "\n".join(_lines_before_the_first_command(script)), re.MULTILINE))
    if taken != len(re.findall(r"^#SBATCH", script, re.MULTILINE)):
        wrong.append("#SBATCH after the first command is not read")
    return wrong


def _lines_before_the_first_command(script: str) -> list[str]:
    lines = script.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return lines[:first]
