"""What was ruled on every parameter of diffusers' pipelines that make pictures.

A parameter that stands in no row here is refused: nobody has ruled on it, so it is never passed along. A row is added
by whoever has read, in the pipeline's source, what the parameter carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

TEXTS = (
    "prompt",
    "prompt_2",
    "prompt_3",
    "prompt_4",
    "source_prompt",
    "negative_prompt",
    "negative_prompt_2",
    "negative_prompt_3",
    "negative_prompt_4",
    "neg_prompt",
)
"""Strings, or lists of them with one a prompt: every one is judged."""

MASKS = frozenset({"mask_image", "control_mask", "mask"})
"""Pictures of one channel."""

ADAPTER_PICTURES = frozenset({"ip_adapter_image", "negative_ip_adapter_image", "gligen_images", "text_images"})
"""Pictures that another reader than the pipeline's own prepares: it reads arrays and tensors in a way of its own."""

NUMBERED_PICTURES = frozenset({"hint"})
"""Pictures that a pipeline takes as tensors only, in the range from 0 to 1."""

PICTURES = (
    MASKS
    | ADAPTER_PICTURES
    | frozenset(
        "image images control_image image_reference input_images original_image reference_image example_image"
        " condtioning_image gligen_inpaint_image hint".split()
    )
)
"""Pictures, or lists of them: every one is judged before the pipeline runs."""

NUMBERS = frozenset(
    # The shape and the number of the pictures.
    " height width num_images_per_prompt original_size crops_coords_top_left target_size negative_original_size"
    " negative_crops_coords_top_left negative_target_size max_area _auto_resize output_resolution"
    " use_resolution_binning num_frames num_videos_per_prompt num_prompts_per_image resolution layers"
    " upsampling_height upsampling_width max_input_image_size use_input_image_size_as_output circular_padding"
    " view_batch_size micro_conditioning_crop_coord processing_resolution match_input_resolution"
    # How the noise is taken away.
    " num_inference_steps timesteps sigmas eta mu std denoising_end original_inference_steps seed parallel tolerance"
    " prior_num_inference_steps prior_timesteps decoder_timesteps pyramid_num_inference_steps_list history_sizes"
    " num_latent_frames_per_chunk keep_first_frame is_skip_first_chunk is_amplify_first_chunk use_zero_init zero_steps"
    " decoder_num_inference_steps super_res_num_inference_steps intermediate_timesteps max_timesteps truncation_rate"
    " jump_length jump_n_sample use_clipped_model_output temperature do_patching ensemble_size"
    # How closely the judged texts are followed.
    " guidance_scale true_cfg_scale guidance_rescale guidance_schedule prior_guidance_scale decoder_guidance_scale"
    " cfg_normalization cfg_trunc_ratio cfg_truncation pag_scale pag_adaptive_scale skip_guidance_layers"
    " skip_layer_guidance_scale skip_layer_guidance_start skip_layer_guidance_stop cfg_normalize cfg_renorm_min"
    " enable_cfg_renorm distilled_guidance_scale source_guidance_scale sag_scale clip_value normalize"
    " enable_denormalization sld_guidance_scale sld_warmup_steps sld_threshold sld_momentum_scale sld_mom_beta"
    " edit_guidance_scale edit_warmup_steps edit_cooldown_steps edit_threshold edit_momentum_scale edit_mom_beta"
    " edit_weights reverse_editing_direction attn_store_steps store_averaged_over_steps use_cross_attn_mask"
    " use_intersect_mask"
    # How much of the judged texts is read, and by which layers.
    " clip_skip max_sequence_length tokenizer_max_length text_encoder_out_layers return_index clean_caption"
    " skip_text_cleaning proportional_attn scaling_watershed use_kv_cache token_indices max_iter_to_alter attn_res"
    " scale_factor prompt_strength prompt_reps use_en_prompt cross_attention_guidance_amount"
    # How strongly a judged input picture counts, and where.
    " strength denoising_start aesthetic_score negative_aesthetic_score padding_mask_crop control_mode guess_mode"
    " controlnet_conditioning_scale control_guidance_start control_guidance_end add_noise_to_image_latents"
    " add_noise_to_video_latents image_noise_sigma_min image_noise_sigma_max video_noise_sigma_min"
    " video_noise_sigma_max adapter_conditioning_scale adapter_conditioning_factor add_predicted_noise noise_level"
    " image_guidance_scale img_guidance_scale inpaint_strength upsampling_strength text_to_image_strength"
    " micro_conditioning_aesthetic_score gligen_boxes gligen_scheduled_sampling_beta gligen_normalize_constant"
    " input_phrases_mask input_images_mask pooled_prompt_embeds_scale prompt_embeds_scale"
    # How often an old callback is called; the callback itself is refused.
    " callback_steps".split()
)
"""Numbers and truth values, or lists of them: they shape a picture, and say nothing."""

WHOLE_NUMBERS = frozenset({"batch_size", "class_labels"})
"""Whole numbers, or lists of them: how many pictures are made, and which of a model's classes they are to show.

The classes come with the model, and their names, where it knows them, are judged.
"""

ATTENTION = frozenset({"cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs"})
"""Masks and embeddings travel in here too; a LoRA's weight is the one entry that is a plain number."""

SWITCHED_OFF = frozenset({"enable_prompt_rewrite", "use_pe", "prompt_upsampling"})
"""Truth values that have a model rewrite the prompt after it was judged."""

EMBEDDINGS = frozenset(
    " prompt_embeds prompt_embeds_2 prompt_embeds_mask prompt_embeds_mask_2 prompt_embeds_pooled prompt_embeds_t5"
    " prompt_embeds_llama3 prompt_embeds_qwen prompt_embeds_clip prompt_cu_seqlens pooled_prompt_embeds"
    " negative_prompt_embeds negative_prompt_embeds_2 negative_prompt_embeds_mask negative_prompt_embeds_mask_2"
    " negative_prompt_embeds_pooled negative_prompt_embeds_t5 negative_prompt_embeds_llama3"
    " negative_prompt_embeds_qwen negative_prompt_embeds_clip negative_prompt_cu_seqlens negative_pooled_prompt_embeds"
    " prompt_attention_mask prompt_attention_mask_2 negative_prompt_attention_mask negative_prompt_attention_mask_2"
    " attention_mask negative_attention_mask prior_token_ids prior_token_image_ids controlnet_pooled_projections"
    " ip_adapter_image_embeds negative_ip_adapter_image_embeds image_embeds negative_image_embeds image_embeddings"
    " encoder_hidden_states negative_encoder_hidden_states text_pad_embedding text_attention_mask"
    " editing_prompt_embeds editing_prompt_embeddings editing_pooled_prompt_embeds source_embeds target_embeds".split()
)
"""Tensors, or lists of them, that a text or picture encoder made."""

FOR_A_PROMPT = (
    "prompt_embeds",
    "prompt_embeds_t5",
    "prompt_embeds_qwen",
    "encoder_hidden_states",
    "image_embeds",
    "image_embeddings",
)
"""Embeddings that stand in the prompt's place, and so count the prompts."""

LATENTS = frozenset(
    " latents image_latents fake_image_latents video_latents masked_image_latents prior_latents decoder_latents"
    " super_res_latents prompt_latents vae_latents clip_latents depth_map sem_guidance user_mask".split()
)
"""Tensors, or lists of them, from which a picture is made, or by which it is changed."""

_PAIRED: Mapping[str, frozenset[str]] = {
    f"{family}{task}Pipeline": frozenset({"image", "mask_image"})
    for family in ("StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "Flux")
    for task in ("Img2Img", "Inpaint", "ControlNetImg2Img", "ControlNetInpaint", "Modular")
}
_BY_PROMPT = frozenset({"StableDiffusion3ModularPipeline", "FluxModularPipeline"})
"""Of the paired pipelines those that lay pictures over rows as they do prompts: A, A, B, B with two of each."""

_GUIDED: Mapping[str, str] = {
    "StableDiffusionControlNetPipeline": "image",
    "StableDiffusionControlNetImg2ImgPipeline": "control_image",
    "StableDiffusionControlNetInpaintPipeline": "control_image",
    "StableDiffusionXLControlNetPipeline": "image",
    "StableDiffusionXLControlNetImg2ImgPipeline": "control_image",
    "StableDiffusionXLControlNetInpaintPipeline": "control_image",
    "StableDiffusion3ControlNetPipeline": "control_image",
    "FluxControlNetPipeline": "control_image",
    "FluxControlNetImg2ImgPipeline": "control_image",
    "FluxControlNetInpaintPipeline": "control_image",
}
_SINGLE_CONTROLNETS = ("ControlNetModel", "SD3ControlNetModel", "FluxControlNetModel")

_FORMS: Mapping[str, str] = {
    **dict.fromkeys(NUMBERS, "a number or a list of numbers"),
    **dict.fromkeys(WHOLE_NUMBERS, "a whole number or a list of whole numbers"),
    **dict.fromkeys(ATTENTION, "{'scale': number}"),
    **dict.fromkeys(SWITCHED_OFF, "False"),
    "generator": "a torch.Generator or a list of them",
    "output_type": "'pil', 'np', 'pt' or 'latent'",
    "return_dict": "a truth value",
    "callback_on_step_end": "a function; what it is handed is sealed, and what it changes is refused",
    "callback_on_step_end_tensor_inputs": "a list of names",
}

_LAID_OUT = "its texts are not laid out one a prompt, so no screen is shown them; leave it out"
_CALLBACKS = "it is handed latents that nobody has judged; use callback_on_step_end instead"
_REWRITING = "it has a model rewrite the prompt, or read more than it, after the prompt was judged; leave it out"
_OUTPUTS = "it has more come out than pictures, which no screen looks at; leave it out"
_UNREAD = "no screen can read what it carries; leave it out"

_REFUSED: Mapping[str, str] = {
    name: why
    for why, names in {
        _LAID_OUT: "gligen_phrases editing_prompt content_prompt task_prompt source_subject_category"
        " target_subject_category",
        _CALLBACKS: "callback prior_callback_on_step_end prior_callback_on_step_end_tensor_inputs",
        _REWRITING: "caption_upsample_temperature prompt_upsampling_temperature"
        " complex_human_instruction system_prompt",
        _OUTPUTS: "output_latent output_uncertainty debug data_type",
        _UNREAD: "source_image_grid_thw video text_model_output thresholds ensembling_kwargs fonts"
        " render_text_images resample_method_input resample_method_output",
    }.items()
    for name in names.split()
}

_CLOSED = {
    "embeddings": "embeddings cannot be read by any screen; pass the text, or have only the pictures screened",
    "latents": "latents cannot be judged; pass a seeded generator instead, or have only the pictures screened",
}


class Treatment(StrEnum):
    """What becomes of a parameter."""

    JUDGED = "judged"
    """It is a text or a picture, and every screen of its kind reads it."""
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
        allowed_by: Which entry of ``protect(allow=…)`` lets it in unread; empty where none does.
    """

    treatment: Treatment
    note: str
    allowed_by: str = ""


def ruling(name: str) -> Ruling | None:
    """Return what was ruled on a parameter of a pipeline's call, or None where nobody has ruled, which also refuses it.

    A parameter that gathers all further keywords is no parameter of its own: what it gathers is looked up by name.
    """
    if name in TEXTS:
        return Ruling(Treatment.JUDGED, "a text or a list of texts")
    if name in PICTURES:
        return Ruling(Treatment.JUDGED, "a picture or a list of pictures")
    if name in _FORMS:
        return Ruling(Treatment.PASSED, _FORMS[name])
    for setting, names in (("embeddings", EMBEDDINGS), ("latents", LATENTS)):
        if name in names:
            return Ruling(Treatment.REFUSED, closed(setting), setting)
    if name in _REFUSED:
        return Ruling(Treatment.REFUSED, _REFUSED[name])
    return None


def paired_pictures(pipe: Any) -> frozenset[str]:
    """Return the picture parameters of which entry k of a list belongs to prompt k; of all others all belong to all.

    Several pictures may also be meant for several ControlNets, or be several references for every prompt.

    Args:
        pipe: A pipeline, or None where it is not known.
    """
    name = type(pipe).__name__
    paired = _PAIRED.get(name, frozenset())
    if name in _GUIDED and type(getattr(pipe, "controlnet", None)).__name__ in _SINGLE_CONTROLNETS:
        return paired | {_GUIDED[name]}
    return paired


def repeated_pictures(pipe: Any) -> frozenset[str]:
    """Return the parameters whose pictures are laid over the rows of a batch again and again: A, B, A, B.

    So row k has picture k modulo their number, whichever prompt it belongs to; one picture a row is taken too. Prompts,
    and the pictures of a ControlNet, are laid out as A, A, B, B.

    Args:
        pipe: A pipeline, or None where it is not known.
    """
    name = type(pipe).__name__
    if name not in _PAIRED or name in _BY_PROMPT:
        return frozenset()
    return _PAIRED[name] | {"masked_image_latents"}


def closed(setting: str) -> str:
    """Return why something is refused unless a setting lets it in, and how it is set."""
    return f"{_CLOSED[setting]} with allow={{{setting!r}}} in safelight.protect() or PromptGuardBlock()"
