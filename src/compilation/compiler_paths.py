"""Paths in the C++ compiler's command line: torch pastes them into it as they are, and splits it at blanks.

For a folder without blanks and quotes nothing changes. Read in torch 2.13, which quotes include folders itself.
"""

import shlex
from typing import Any

from torch._inductor.cpp_builder import BuildOptionsBase, CppBuilder


def quoted(path: str) -> str:
    """The path as a shell's word, where it is not one as it stands."""
    try:
        return path if shlex.split(path) == [path] else shlex.quote(path)
    except ValueError:  # a quotation mark without its other
        return shlex.quote(path)


def quote_compiler_paths() -> None:
    """Let this process' torch compile in any folder, and be in any."""
    library_folders, made = BuildOptionsBase.get_libraries_dirs, CppBuilder.__init__

    def quoted_library_folders(self: BuildOptionsBase) -> list[str]:
        return [quoted(folder) for folder in library_folders(self)]

    def made_with_quotes(
        self: Any,
        name: str,
        sources: str | list[str],
        BuildOption: BuildOptionsBase,  # noqa: N803 - torch's name
        output_dir: str = "",
    ) -> None:
        made(self, name, sources, BuildOption, output_dir)
        for path in [sources] if isinstance(sources, str) else sources:
            self._sources_args = self._sources_args.replace(path, quoted(path))
        self._output = self._output.replace(self._target_file, quoted(self._target_file))
        if header := BuildOption.precompiled_header:  # below TMPDIR
            self._include_dirs_args = self._include_dirs_args.replace(header, quoted(header))

    BuildOptionsBase.get_libraries_dirs = quoted_library_folders  # type: ignore[method-assign]
    CppBuilder.__init__ = made_with_quotes  # type: ignore[method-assign]
