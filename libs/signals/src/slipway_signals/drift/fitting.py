"""Does a reference profile fit the model it is for?

It reads no file. The invariant: what passes can be counted: every feature is in the row, with the same type and words.
"""

from collections.abc import Sequence

from slipway_bundle.schema import ModelSchema, TensorSpec
from slipway_signals.drift.binning import watchable
from slipway_signals.drift.profile import Categorical, Feature, Profile, ProfileError, decode_profile

__all__ = ["check_fits", "judge_reference"]


def judge_reference(model: str, data: bytes, schema: ModelSchema) -> None:
    """Judge the bytes of a profile before they become part of a bundle (`slipway_bundle.build`, `judge_reference`).

    Raises:
        ProfileError: They are no profile, or one that does not fit the model's schema.
    """
    profile = decode_profile(data, what=f"the reference profile of model {model!r}")
    if profile.model != model:
        raise ProfileError(f"the reference profile of model {model!r} is that of {profile.model!r}")
    check_fits(profile, schema.inputs)
    if profile.prediction is not None:
        _check(profile.model, profile.prediction.feature, schema.outputs, "answer")


def check_fits(profile: Profile, inputs: Sequence[TensorSpec]) -> None:
    """Judge whether a profile is one of rows with these tensors.

    Raises:
        ProfileError: It has a feature that the rows do not have, or have as something else.
    """
    for feature in profile.features:
        _check(profile.model, feature, inputs, "row")


def _check(model: str, feature: Feature, tensors: Sequence[TensorSpec], where: str) -> None:
    specs = {name: spec for spec in tensors for name in watchable(spec)}
    spec = specs.get(feature.name)
    if spec is None:
        raise ProfileError(
            f"the reference profile of model {model!r} has the feature {feature.name!r}, "
            f"the model's {where} has {', '.join(specs) or 'none that can be watched'}",
            hint="build the profile again from the data that this model was trained on",
            feature=feature.name,
        )
    words = spec.values or (("false", "true") if spec.datatype == "BOOL" else ())
    known = (*feature.values, *feature.others) if isinstance(feature, Categorical) else ()
    unknown = next((word for word in known if word not in words), None)
    if feature.datatype == spec.datatype and bool(words) == isinstance(feature, Categorical) and unknown is None:
        return
    got = f"{feature.datatype} with {unknown!r}" if unknown is not None else feature.datatype
    expected = f"{spec.datatype} with {', '.join(map(repr, words))}" if words else spec.datatype
    raise ProfileError(
        f"the reference profile of model {model!r} has {feature.name!r} as {got}, the model's {where} as {expected}",
        hint="build the profile again: bounds are exact in one datatype, and words in one closed set",
        feature=feature.name,
    )
