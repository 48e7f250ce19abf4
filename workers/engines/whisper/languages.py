"""The languages that Whisper knows (whisper.cpp's `g_lang`), by code and by English name."""

from __future__ import annotations

import re

_CODES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th "
    "ur hr bg lt la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr "
    "pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt "
    "haw ln ha ba jw su yue"
)
_NAMES = (
    "english,chinese,german,spanish,russian,korean,french,japanese,portuguese,turkish,polish,"
    "catalan,dutch,arabic,swedish,italian,indonesian,hindi,finnish,vietnamese,hebrew,ukrainian,"
    "greek,malay,czech,romanian,danish,hungarian,tamil,norwegian,thai,urdu,croatian,bulgarian,"
    "lithuanian,latin,maori,malayalam,welsh,slovak,telugu,persian,latvian,bengali,serbian,"
    "azerbaijani,slovenian,kannada,estonian,macedonian,breton,basque,icelandic,armenian,nepali,"
    "mongolian,bosnian,kazakh,albanian,swahili,galician,marathi,punjabi,sinhala,khmer,shona,"
    "yoruba,somali,afrikaans,occitan,georgian,belarusian,tajik,sindhi,gujarati,amharic,yiddish,"
    "lao,uzbek,faroese,haitian creole,pashto,turkmen,nynorsk,maltese,sanskrit,luxembourgish,"
    "myanmar,tibetan,tagalog,malagasy,assamese,tatar,hawaiian,lingala,hausa,bashkir,javanese,"
    "sundanese,cantonese"
)
_BY_NAME = dict(zip(_NAMES.split(","), _CODES.split(), strict=True))
_KNOWN = frozenset(_CODES.split())
_REGION = re.compile(r"(?<=[a-z])([-_][a-z0-9]{2,8}){1,3}\Z")
AUTO = "auto"
"""The model detects the language."""


def code(text: str) -> str:
    """The code for `text`: a code, a name as in answers, or empty for `AUTO`. What stands behind a
    code, as browsers write it (``en-US``), is a region or a script, which the model does not
    know. Raises ValueError."""
    known = text.lower()
    if known in ("", AUTO):
        return AUTO
    known = _BY_NAME.get(known) or _REGION.sub("", known)
    if known not in _KNOWN:
        raise ValueError(f"{text[:40]!r} is no language in ISO-639-1 that Whisper knows")
    return known
