"""Any sequence of builds, deletes and collections against a dict."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from store_fakes import names, put_bundle, require_tidy, require_whole

from slipway_bundle.store import Store
from slipway_bundle.store_errors import RefConflictError, RefNotFoundError

if TYPE_CHECKING:
    from slipway_bundle.digest import Digest

refs = st.sampled_from(["a:1", "a:2", "b/c:1"])
texts = st.sampled_from(["x", "y", "z"])


class StoreMachine(RuleBasedStateMachine):
    """The model: which digest each reference has."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(self.folder / "store")
        self.model: dict[str, Digest] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(ref=refs, text=texts)
    def build(self, ref: str, text: str) -> None:
        index = put_bundle(self.store, text)
        if self.model.setdefault(ref, index.digest) == index.digest:
            self.store.publish(ref, index)
        else:
            try:
                self.store.publish(ref, index)
            except RefConflictError:
                return
            raise AssertionError("a conflict was not noticed")

    @rule(ref=refs)
    def delete(self, ref: str) -> None:
        try:
            assert self.store.delete(ref).digest == self.model.pop(ref, None)
        except RefNotFoundError:
            assert ref not in self.model

    @rule()
    def collect(self) -> None:
        forecast = self.store.gc(dry_run=True)
        assert self.store.gc().removed == forecast.removed
        if self.store.root.exists():
            require_tidy(self.store)

    @rule()
    def open_again(self) -> None:
        self.store = Store.open(self.folder / "store")

    @rule(ref=refs)
    def resolve(self, ref: str) -> None:
        try:
            assert self.store.resolve(ref) == self.model.get(ref)
        except RefNotFoundError:
            assert ref not in self.model

    @invariant()
    def the_store_lists_the_model_and_all_of_it_is_whole(self) -> None:
        assert names(self.store) == self.model
        require_whole(self.store)


StoreMachine.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
TestStoreAgainstADict = StoreMachine.TestCase
