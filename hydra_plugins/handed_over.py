"""Hydra finds plugins here, and DVC has Hydra do so (`hydra.plugins_path`) when `dvc exp run` composes conf/: its first step."""

import traceback

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from ppdl.config import PROJECT, private_dir
from ppdl.config.handed_over import refuse_to_delete
from ppdl.errors import PpdlError


class HandedOver(SearchPathPlugin):
    """Stop `dvc exp run` before it deletes ciphertexts and keys that somebody handed over."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave the search path as it is.

        Raises:
            DvcException: there are such files, or a key file is damaged. DVC prints it as its own error, and puts the checkout back.
        """
        if not any(str(frame.f_globals.get("__name__")).startswith("dvc.repo.experiments") for frame, _ in traceback.walk_stack(None)):
            return
        from dvc.exceptions import DvcException

        try:
            refuse_to_delete(PROJECT, private_dir(), "`dvc exp run`")
        except PpdlError as error:
            raise DvcException(str(error)) from None
