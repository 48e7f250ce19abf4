"""Files that are dropped into the playground, or chosen."""

from __future__ import annotations

from collections.abc import Mapping

from nicegui import events, ui

from deploy.console.pages import asked
from deploy.console.pages.asked import MOST, MOST_FILES, File, Wrong

_DROPPED = """(e) => {
  const files = (e.dataTransfer || e.clipboardData).files;
  if (e.type === 'drop' || files.length) e.preventDefault();
  if (files.length) %s.addFiles(files);
}"""


class Files:
    """A button and a place for files, which are dropped or pasted there. `known`: endings and types
    that may be given. `most`: how many; of one, the next takes its place."""

    def __init__(
        self, label: str, known: Mapping[str, str], place: ui.element, most: int = MOST_FILES
    ) -> None:
        self._most = most
        self.chosen: list[File] = []
        with ui.element("div").classes("hr-row") as self._row:
            self._button = ui.button(icon="attach_file").props('outline dense padding="xs sm"')
            ui.label("or drop or paste here").classes("hr-soft")
        self._list = ui.element("div").classes("hr-row hr-files")
        # Quasar's own has no names for readers of screens, so it works behind the button.
        self._upload = ui.upload(
            multiple=most > 1,
            max_file_size=MOST,
            auto_upload=True,
            on_upload=self._take,
            on_rejected=self._refuse,
        ).classes("hidden")
        uploader = f"getElement({self._upload.id}).$refs.qRef"  # Quasar's, within NiceGUI's
        # Not `reset`, which ends those that are still on their way. One that stayed could not be
        # chosen again.
        self._upload.on("uploaded", js_handler=f"() => {uploader}.removeUploadedFiles()")
        self._button.on("click", js_handler=f"() => {uploader}.pickFiles()")
        place.on("dragover", js_handler="(e) => e.preventDefault()")
        for event in ("drop", "paste"):
            place.on(event, js_handler=_DROPPED % uploader)
        self.turn_to(label, known)

    def turn_to(self, label: str, known: Mapping[str, str]) -> None:
        """Take other files from now on; without any that are known, none."""
        self._known = known
        self.chosen = [file for file in self.chosen if file.type in known.values()]
        self._button.set_text(label)
        self._row.set_visibility(bool(known))
        self._upload.props["accept"] = ",".join(f".{ending}" for ending in known) or "none"
        self._show()

    def take(self) -> tuple[File, ...]:
        """The files; none is left here then."""
        found = tuple(self.chosen)
        self.chosen.clear()
        self._show()
        return found

    def _refuse(self) -> None:
        endings = ", ".join(self._known)
        said = f"Files of up to {MOST // 2**20} MiB that end in {endings} can be sent here."
        ui.notify(said if endings else "This model takes texts alone.", type="warning")

    async def _take(self, event: events.UploadEventArguments) -> None:
        try:
            found = asked.taken(event.file.name, await event.file.read(), self._known)
            # The others that came meanwhile are here by now.
            self.chosen = asked.added([] if self._most == 1 else self.chosen, found, self._most)
        except Wrong as why:
            ui.notify(str(why), type="warning")
            return
        self._show()

    def _drop(self, file: File) -> None:
        self.chosen.remove(file)
        self._show()

    def _show(self) -> None:
        self._list.clear()
        with self._list:
            for file in self.chosen:
                with ui.element("span").classes("hr-file"):
                    ui.label(f"{file.name}, {len(file.content) / 1024:,.0f} KiB")
                    leave = ui.button(icon="close", on_click=lambda file=file: self._drop(file))
                    leave.props(f'flat round dense size=sm aria-label="Leave out {file.name}"')
