"""Where a model is read from, and one line for whatever goes wrong meanwhile.

source = Source("facebook/bart-large-mnli", "teacher")
with source.reading():
    tokenizer = AutoTokenizer.from_pretrained(source.name, revision=source.revision)
"""

import contextlib
import logging
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import constants, errors
from safetensors import SafetensorError

from distilbart_mnli.errors import CommandError, HubError, InputError, RunError
from distilbart_mnli.hub_client import bounded_client

logger = logging.getLogger(__name__)

# What a damaged or a foreign file makes transformers, torch and safetensors raise.
PYTHON_ERRORS = (OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, ArithmeticError)
OTHER_ERRORS = (AssertionError, ImportError, pickle.UnpicklingError, SafetensorError, errors.StrictDataclassError)


def is_library_error(error: Exception) -> bool:
    """Whether a library raised it over what it was given; tokenizers raises Exception itself."""
    return isinstance(error, (*PYTHON_ERRORS, *OTHER_ERRORS)) or type(error) is Exception


@contextlib.contextmanager
def reported(report: Callable[[CommandError], None]) -> Iterator[None]:
    """Inside, whatever a library or a command raises goes to `report`, and no further."""
    try:
        yield
    except CommandError as error:
        report(error)
    except Exception as error:
        if not is_library_error(error):
            raise
        logger.debug("%s", error, exc_info=True)
        report(RunError(f"{type(error).__name__}: {_in_short(error)}"))


@dataclass(frozen=True)
class Source:
    """A model's folder or its name on the Hub, as the user gave it."""

    name: str
    what: str = "model"  # how a message calls it: model, teacher, tokenizer
    revision: str = "main"
    cache_dir: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether transformers reads it from the disk: a folder goes before a Hub id of the same name."""
        return Path(self.name).is_dir()

    def refused(self, reason: str, fault: type[CommandError] = InputError) -> CommandError:
        """An error whose message begins with the model's name."""
        return fault(f"{self.what} {self.name}: {reason}")

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, transformers or the Hub's client reads the model; what they raise becomes one line.

        Raises:
            InputError: nothing there, damaged, or not what the library expects.
            HubError: the Hub refused or could not be reached.
        """
        try:
            with contextlib.nullcontext() if self.is_local else bounded_client():
                yield
        except Exception as error:
            if not isinstance(error, httpx2.HTTPError) and not is_library_error(error):
                raise
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> CommandError:
        """The line for `error`, which may have been raised on account of another one."""
        causes = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
            causes.append(cause)
        log_in = "log in with `hf auth login`"
        for cause in causes:
            match cause:
                case pickle.UnpicklingError():
                    return self.refused("its weights are a pickle that holds more than tensors; that is not loaded")
                case _ if self.is_local:
                    continue
                case errors.HFValidationError():
                    return self.refused("there is no such folder, and it is not a name on the Hub")
                case errors.GatedRepoError():
                    ask = f"access is gated; ask for it at https://huggingface.co/{self.name}, then {log_in}"
                    return self.refused(ask, HubError)
                case errors.RevisionNotFoundError():
                    return self.refused("the Hub has no such revision of it")
                case errors.RepositoryNotFoundError():
                    nowhere = "neither a folder here nor a model on the Hub that you may read"
                    return self.refused(f"{nowhere}; if it is private, {log_in}", HubError)
                case errors.LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
                    return self.refused("no such folder here, and not in the Hub's cache (HF_HUB_OFFLINE is set)")
                case errors.LocalEntryNotFoundError(__cause__=errors.HfHubHTTPError()):
                    continue  # it could be reached, and refused
                case errors.LocalEntryNotFoundError() | httpx2.TransportError():
                    return self.refused("no such folder here, and the Hub cannot be reached", HubError)
                case httpx2.HTTPError():
                    return self.refused(f"the Hub refused: {_in_short(cause)}", HubError)
        return self.refused(f"cannot be read: {_in_short(error)}")


def _in_short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
