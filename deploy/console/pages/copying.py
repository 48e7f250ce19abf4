"""A button that copies what an element shows to the clipboard of the browser."""

from __future__ import annotations

from nicegui import ui

_COPY = """() => {
  const from = document.getElementById('%s'), text = from.textContent;
  const select = () => {
    const range = document.createRange();
    range.selectNodeContents(from);
    const chosen = window.getSelection();
    chosen.removeAllRanges();
    chosen.addRange(range);
    document.execCommand('copy');
  };
  // Browsers have the clipboard for pages of this machine and of https alone.
  if (navigator.clipboard) navigator.clipboard.writeText(text).catch(select); else select();
}"""


def copies(shown: ui.element, label: str = "Copy") -> ui.button:
    """`shown`: what has the text."""

    def told() -> None:
        button.props("icon=check")
        said.set_text("Copied")

    button = ui.button(label, icon="content_copy", on_click=told).props("outline dense no-caps")
    button.on("click", js_handler=_COPY % shown.html_id)
    said = ui.label().classes("hr-soft").props("role=status")
    return button
