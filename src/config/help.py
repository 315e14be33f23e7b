"""The application's help: its text is `hydra.help` of the primary config, its list of groups is read from `conf/`."""


def versions() -> str:
    return ""


def application_help(config: object, loader: object, prog: str) -> str:
    return ""
