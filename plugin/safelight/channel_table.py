"""What was ruled on every parameter of diffusers' text-to-image pipelines, and of all of Stable Diffusion's and Flux's.

A parameter that stands in no row here is refused: nobody has ruled on it, so it is never passed along. A row is added
by whoever has read, in the pipeline's source, what the parameter carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

TEXTS = (
    "prompt",
    "prompt_2",
    "prompt_3",
    "negative_prompt",
    "negative_prompt_2",
    "negative_prompt_3",
)
"""Strings, or lists of them: every one is judged."""

NUMBERS = frozenset(
    # The shape and the number of the pictures.
    " height width num_images_per_prompt original_size crops_coords_top_left target_size negative_original_size"
    " negative_crops_coords_top_left negative_target_size max_area _auto_resize output_resolution"
    " use_resolution_binning num_frames num_videos_per_prompt"
    # How the noise is taken away.
    " num_inference_steps timesteps sigmas eta mu std denoising_end original_inference_steps"
    " prior_num_inference_steps prior_timesteps decoder_timesteps pyramid_num_inference_steps_list history_sizes"
    " num_latent_frames_per_chunk keep_first_frame is_skip_first_chunk is_amplify_first_chunk use_zero_init zero_steps"
    # How closely the judged texts are followed.
    " guidance_scale true_cfg_scale guidance_rescale guidance_schedule prior_guidance_scale decoder_guidance_scale"
    " cfg_normalization cfg_trunc_ratio cfg_truncation pag_scale pag_adaptive_scale skip_guidance_layers"
    " skip_layer_guidance_scale skip_layer_guidance_start skip_layer_guidance_stop"
    # How much of the judged texts is read, and by which layers.
    " clip_skip max_sequence_length tokenizer_max_length text_encoder_out_layers return_index clean_caption"
    " skip_text_cleaning proportional_attn scaling_watershed use_kv_cache"
    # How strongly an input picture counts; the picture itself is refused.
    " strength denoising_start aesthetic_score negative_aesthetic_score padding_mask_crop control_mode guess_mode"
    " controlnet_conditioning_scale control_guidance_start control_guidance_end add_noise_to_image_latents"
    " add_noise_to_video_latents image_noise_sigma_min image_noise_sigma_max video_noise_sigma_min"
    " video_noise_sigma_max"
    # How often an old callback is called; the callback itself is refused.
    " callback_steps".split()
)
"""Numbers and truth values, or lists of them: they shape a picture, and say nothing."""

ATTENTION = frozenset({"cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs"})
"""Masks and embeddings travel in here too; a LoRA's weight is the one entry that is a plain number."""

_FORMS: Mapping[str, str] = {
    **dict.fromkeys(NUMBERS, "a number or a list of numbers"),
    **dict.fromkeys(ATTENTION, "{'scale': number}"),
    "generator": "a torch.Generator or a list of them",
    "output_type": "'pil', 'np' or 'pt'",
    "return_dict": "a truth value",
    "callback_on_step_end": "a plain function that is handed no tensors and returns none",
    "callback_on_step_end_tensor_inputs": "[]",
}

_EMBEDDINGS = "embeddings cannot be read by any screen yet; pass the text instead"
_LATENTS = "latents cannot be judged yet; leave them out and pass a seeded generator instead"
_PICTURES = "input pictures cannot be judged yet; only text to image is guarded"
_CALLBACKS = "this callback hands latents out; use callback_on_step_end with its tensor inputs set to []"
_REWRITING = "it has a model rewrite the prompt, or read more than it, after the prompt was judged; leave it out"

_REFUSED: Mapping[str, str] = {
    name: why
    for why, names in {
        _EMBEDDINGS: "prompt_embeds prompt_embeds_2 prompt_embeds_mask prompt_embeds_pooled pooled_prompt_embeds"
        " negative_prompt_embeds negative_prompt_embeds_2 negative_prompt_embeds_mask negative_prompt_embeds_pooled"
        " negative_pooled_prompt_embeds prompt_attention_mask prompt_attention_mask_2 negative_prompt_attention_mask"
        " negative_prompt_attention_mask_2 attention_mask negative_attention_mask prior_token_ids"
        " prior_token_image_ids controlnet_pooled_projections",
        _LATENTS: "latents image_latents fake_image_latents video_latents masked_image_latents",
        _PICTURES: "image images mask_image control_image control_mask ip_adapter_image ip_adapter_image_embeds"
        " negative_ip_adapter_image negative_ip_adapter_image_embeds source_image_grid_thw video",
        _CALLBACKS: "callback prior_callback_on_step_end prior_callback_on_step_end_tensor_inputs",
        _REWRITING: "caption_upsample_temperature prompt_upsampling prompt_upsampling_temperature"
        " complex_human_instruction system_prompt",
    }.items()
    for name in names.split()
}


class Treatment(StrEnum):
    """What becomes of a parameter."""

    JUDGED = "judged"
    """It is a text, and every screen reads it."""
    PASSED = "passed"
    """It is passed on unread, if it has the one form in which it carries nothing."""
    REFUSED = "refused"
    """It would carry what no screen can read."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What was ruled on a parameter.

    Args:
        treatment: What becomes of it.
        note: The form that it must have or, where it is refused, why.
    """

    treatment: Treatment
    note: str


def ruling(name: str) -> Ruling | None:
    """Return what was ruled on a parameter of a pipeline's call, or None where nobody has ruled, which also refuses it.

    A parameter that gathers all further keywords is no parameter of its own: what it gathers is looked up by name.
    """
    if name in TEXTS:
        return Ruling(Treatment.JUDGED, "a text or a list of texts")
    if name in _FORMS:
        return Ruling(Treatment.PASSED, _FORMS[name])
    if name in _REFUSED:
        return Ruling(Treatment.REFUSED, _REFUSED[name])
    return None
