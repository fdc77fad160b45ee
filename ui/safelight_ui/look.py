"""Colours, letters and spacing. All of it is local: a page that works without a network."""

from __future__ import annotations

import gradio as gr


def theme() -> gr.themes.Base:
    """Return the theme: a warm lamp on paper, with fonts of the machine it is shown on."""
    return gr.themes.Soft(
        primary_hue="orange",
        neutral_hue="stone",
        radius_size="md",
        font=["ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"],
    ).set(
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_label_text_color="*body_text_color_subdued",
        # A second set() puts everything that it does not name back to Gradio's default, so Soft's paper is named again.
        background_fill_primary="*neutral_50",
        block_border_width="0px",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_shadow="none",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
    )


CSS = """
.gradio-container { max-width: 1080px !important; width: 100%; margin: 0 auto !important; }
.sl-header h1 { display: flex; align-items: center; gap: .5rem; font-size: 1.9rem; margin: .4rem 0 .2rem; }
.sl-header p { margin: 0; color: var(--body-text-color-subdued); font-size: 1.02rem; }
.sl-lamp { width: 1.1rem; height: 1.1rem; border-radius: 50%; flex: none; margin-left: .3rem;
  background: radial-gradient(circle at 35% 35%, #ffd08a, #f2601d 55%, #9f1c0c);
  box-shadow: 0 0 .9rem .15rem rgba(242, 96, 29, .45); }
.sl-header .sl-note { margin-top: .7rem; padding: .5rem .8rem; border-radius: var(--radius-md);
  border-left: 4px solid var(--primary-400); background: var(--block-background-fill);
  color: var(--body-text-color); font-size: .93rem; }
.sl-knows { padding: 0 1.1rem; font-size: .9rem; line-height: 1.5; }
.sl-knows h3 { margin: 0 0 .3rem; font-size: 1rem; }
.sl-knows dl { margin: 0; display: grid; grid-template-columns: max-content 1fr; gap: .1rem .7rem; }
.sl-knows dt { font-weight: 600; }
.sl-knows dd { margin: 0; }
.gradio-container .html-container { padding: 0; }
.gradio-container .main, .gradio-container .wrap { width: 100%; }
.sl-ask button, #prompt textarea { min-height: 48px; }
#prompt textarea { border: 1px solid var(--input-border-color); border-radius: var(--radius-md); font-size: 1.05rem;
  padding: .7rem .8rem; background: var(--block-background-fill); }
#prompt textarea:focus { border-color: var(--primary-500); }
#gallery, #options { border: 1px solid var(--border-color-primary) !important; border-radius: var(--radius-lg); }
#gallery .gallery-item:only-child .thumbnail-item { aspect-ratio: auto; height: 412px;
  background: none; border: 0; box-shadow: none; }
.sl-card { border-width: 4px 1px 1px; border-style: solid;
  border-color: var(--sl-tone) var(--border-color-primary) var(--border-color-primary);
  border-radius: var(--radius-lg); padding: 1rem 1.1rem; background: var(--block-background-fill); font-size: .95rem;
  line-height: 1.5; overflow-wrap: anywhere; }
.sl-card h3 { margin: 0 0 .5rem; font-size: 1.12rem; color: var(--sl-tone); }
.sl-card h4 { margin: 0 0 .3rem; font-size: 1rem; }
.sl-card p { margin: .45rem 0; }
.sl-idle { --sl-tone: #8a8178; } .sl-good { --sl-tone: #1c7c4a; } .sl-bad { --sl-tone: #b3261e; }
.sl-fault { --sl-tone: #2c62ad; } .sl-hint { --sl-tone: #9a6400; }
.dark .sl-good { --sl-tone: #57c98d; } .dark .sl-bad { --sl-tone: #ff8a80; } .dark .sl-fault { --sl-tone: #8ab4f8; }
.dark .sl-hint { --sl-tone: #f2bd5c; } .dark .sl-idle { --sl-tone: #b5aca2; }
.sl-steps { margin: 0; padding-left: 1.3rem; list-style: decimal; }
.sl-card dl { margin: .3rem 0; }
.sl-card dt { font-weight: 600; margin-top: .55rem; }
.sl-card dd { margin: .1rem 0 0; }
.sl-card small { display: block; color: var(--body-text-color-subdued); }
.sl-card a { margin: 0; padding: 0; color: var(--sl-tone); }
.sl-card code, .sl-footer code { font-family: var(--font-mono); font-size: .84em; }
.sl-appeal { color: var(--body-text-color-subdued); font-size: .9em; }
.sl-withheld { border-left: 4px solid #b3261e; padding: .1rem 0 .1rem .8rem; margin: .2rem 0 .9rem; }
.dark .sl-withheld { border-color: #ff8a80; }
.sl-chip { display: inline-block; padding: 0 .5rem; border-radius: 1rem; font-size: .88em; margin: .05rem 0;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
.sl-card details { margin-top: .7rem; font-size: .9em; } .sl-card summary { cursor: pointer; }
.sl-card ul { margin: .3rem 0 0; padding-left: 1.1rem; list-style: disc; }
.sl-footer { font-size: .85rem; color: var(--body-text-color-subdued); text-align: center; padding: .6rem 0 1rem; }
.sl-footer p { margin: .25rem 0; }
@media (max-width: 640px) {
  #gallery { height: 372px !important; }
  #gallery .gallery-item:only-child .thumbnail-item { height: 344px; }
}
"""
