from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from disguises_of_zorblax import ALL
from fakes import SENTINEL, sentinel_screen
from safelight.errors import InvalidRequest
from safelight.picture_texts import MAX_TEXTS, MAX_TOTAL_CHARS, texts_of_file
from safelight.request import MAX_PROMPT_CHARS, GenerationRequest, Principal

TEXT = "a zorblax, ζ and 夕暮れ"
LATIN = "a zorblax, ζ and é"
XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:description>{TEXT}</dc:description></x:xmpmeta>'
COMFY = json.dumps({"6": {"class_type": "CLIPTextEncode", "inputs": {"text": TEXT}}}, ensure_ascii=False)
A1111 = f"{TEXT}\nNegative prompt: fog\nSteps: 30, Sampler: Euler, CFG scale: 5, Seed: 1"


def saved(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(buffer, form, **options)
    return buffer.getvalue()


def png(*texts: tuple[str, str], zipped: bool = False, international: bool = False) -> bytes:
    info = PngInfo()
    for keyword, text in texts:
        (info.add_itxt if international else info.add_text)(keyword, text, zip=zipped)
    return saved("PNG", pnginfo=info)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(kind: bytes, body: bytes) -> bytes:
    plain = saved("PNG")
    return plain[:33] + chunk(kind, body) + plain[33:]


def jpeg_with(marker: int, body: bytes) -> bytes:
    plain = saved("JPEG")
    return plain[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + plain[2:]


def exif(tags: dict[int, object], *, deeper: dict[int, object] | None = None) -> bytes:
    block = Image.Exif()
    for tag, value in tags.items():
        block[tag] = value
    for tag, value in (deeper or {}).items():
        block.get_ifd(0x8769)[tag] = value
    return block.tobytes()


def photoshop(number: int, body: bytes, name: bytes = b"") -> bytes:
    named = bytes([len(name)]) + name + b"\x00" * ((len(name) + 1) % 2)
    return b"8BIM" + struct.pack(">H", number) + named + struct.pack(">I", len(body)) + body + b"\x00" * (len(body) % 2)


def iptc(dataset: int, text: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, 2, dataset, len(text)) + text


COMMENT = b"UNICODE\x00" + TEXT.encode("utf-16-be")
IPTC = b"Photoshop 3.0\x00" + photoshop(0x03ED, bytes(16)) + photoshop(0x0404, iptc(120, TEXT.encode()), b"nm")
FILES: dict[str, tuple[bytes, str, str]] = {
    "A1111 in a PNG": (png(("parameters", A1111)), "png.parameters", A1111),
    "ComfyUI's prompt": (png(("prompt", COMFY)), "png.prompt", COMFY),
    "ComfyUI's workflow, compressed": (png(("workflow", COMFY), zipped=True), "png.workflow", COMFY),
    "an international text": (png(("Comment", TEXT), international=True), "png.Comment", TEXT),
    "UTF-8 where Latin-1 should be": (png_with(b"tEXt", b"Title\x00" + TEXT.encode()), "png.Title", TEXT),
    "Latin-1": (png_with(b"tEXt", b"Title\x00caf\xe9"), "png.Title", "café"),
    "a keyword that anybody may choose": (png((SENTINEL, "tea")), "png.keyword", SENTINEL),
    "the text of such a keyword": (png(("any", TEXT)), "png.text", TEXT),
    "a translated keyword": (
        png_with(b"iTXt", b"Title\x00\x00\x00en\x00" + TEXT.encode() + b"\x00tea"),
        "png.translated_keyword",
        TEXT,
    ),
    "a language": (png_with(b"iTXt", b"Title\x00\x00\x00zorblax\x00\x00tea"), "png.language", SENTINEL),
    "a colour profile's name": (png_with(b"iCCP", b"zorblax\x00\x00" + zlib.compress(b"")), "png.profile", SENTINEL),
    "XMP in a PNG": (png(("XML:com.adobe.xmp", XMP), international=True), "xmp", XMP),
    "EXIF in a PNG": (saved("PNG", exif=exif({0x010E: TEXT.encode()})), "exif.ImageDescription", TEXT),
    "an unknown PNG chunk": (png_with(b"zoRb", TEXT.encode()), "png.other", TEXT),
    "after a PNG's end": (saved("PNG") + TEXT.encode(), "png.after_end", TEXT),
    "a chunk after a PNG's end": (saved("PNG") + chunk(b"tEXt", b"Title\x00zorblax"), "png.Title", SENTINEL),
    "a compressed chunk after a PNG's end and some filling": (
        saved("PNG") + bytes(7) + chunk(b"zTXt", b"Title\x00\x00" + zlib.compress(TEXT.encode())),
        "png.Title",
        TEXT,
    ),
    "a second picture after a PNG's end": (
        saved("PNG") + png_with(b"iTXt", b"Title\x00\x00\x00\x00\x00" + TEXT.encode()),
        "png.Title",
        TEXT,
    ),
    "UTF-16 in an unknown chunk": (png_with(b"zoRb", LATIN.encode("utf-16-le")), "png.other", LATIN),
    "UTF-16 of the other order": (png_with(b"zoRb", LATIN.encode("utf-16-be")), "png.other", LATIN),
    "UTF-16 with a mark": (png_with(b"zoRb", LATIN.encode("utf-16")), "png.other", LATIN),
    "UTF-16 as a PNG's text": (png_with(b"tEXt", b"Title\x00" + LATIN.encode("utf-16-be")), "png.Title", LATIN),
    "UTF-16 from the keyword on": (png_with(b"tEXt", LATIN.encode("utf-16-le")), "png.text", LATIN),
    "a NUL in a word": (png_with(b"tEXt", b"Title\x00zor\x00blax"), "png.Title", "zor\nblax\nzorblax"),
    "a JPEG's comment": (saved("JPEG", comment=TEXT.encode()), "jpeg.comment", TEXT),
    "a description": (saved("JPEG", exif=exif({0x010E: TEXT.encode()})), "exif.ImageDescription", TEXT),
    "an artist": (saved("JPEG", exif=exif({0x013B: "zorblax"})), "exif.Artist", SENTINEL),
    "a camera's maker": (saved("JPEG", exif=exif({0x010F: "zorblax"})), "exif.Make", SENTINEL),
    "two owners": (saved("JPEG", exif=exif({0x8298: b"tea\x00zorblax"})), "exif.Copyright", "tea\nzorblax\nteazorblax"),
    "A1111 in a JPEG": (saved("JPEG", exif=exif({}, deeper={0x9286: COMMENT})), "exif.UserComment", TEXT),
    "the other byte order": (
        saved("JPEG", exif=exif({}, deeper={0x9286: b"UNICODE\x00" + TEXT.encode("utf-16-le")})),
        "exif.UserComment",
        TEXT,
    ),
    "ASCII": (saved("JPEG", exif=exif({}, deeper={0x9286: b"ASCII\x00\x00\x00zorblax"})), "exif.UserComment", SENTINEL),
    "JIS": (
        saved("JPEG", exif=exif({}, deeper={0x9286: b"JIS\x00\x00\x00\x00\x00" + "夕暮れ".encode("iso2022_jp")})),
        "exif.UserComment",
        "夕暮れ",
    ),
    "no mark": (saved("JPEG", exif=exif({}, deeper={0x9286: TEXT.encode()})), "exif.UserComment", TEXT),
    "Windows' title": (saved("JPEG", exif=exif({0x9C9B: TEXT.encode("utf-16-le")})), "exif.XPTitle", TEXT),
    "an unknown tag": (saved("JPEG", exif=exif({0xFDE8: "zorblax"})), "exif.0xFDE8", SENTINEL),
    "XMP in a JPEG": (saved("JPEG", xmp=XMP.encode()), "xmp", XMP),
    "more XMP": (
        jpeg_with(0xE1, b"http://ns.adobe.com/xmp/extension/\x00" + b"0" * 32 + bytes(8) + XMP.encode()),
        "xmp.more",
        XMP,
    ),
    "IPTC": (jpeg_with(0xED, IPTC), "iptc.Caption", TEXT),
    "a block's own name": (jpeg_with(0xED, IPTC), "photoshop.name", "nm"),
    "an unknown segment": (jpeg_with(0xEC, TEXT.encode()), "jpeg.other", TEXT),
    "after a JPEG's end": (saved("JPEG") + TEXT.encode(), "jpeg.after_end", TEXT),
    "between a progressive JPEG's scans": (
        saved("JPEG", progressive=True).replace(b"\xff\xda", b"\xff\xfe\x00\x09zorblax\xff\xda", 2),
        "jpeg.comment.2",
        SENTINEL,
    ),
    "EXIF in a WebP": (saved("WEBP", exif=exif({0x010E: TEXT.encode()})), "exif.ImageDescription", TEXT),
    "A1111 in a WebP": (saved("WEBP", exif=exif({}, deeper={0x9286: COMMENT})), "exif.UserComment", TEXT),
    "XMP in a WebP": (saved("WEBP", xmp=XMP.encode()), "xmp", XMP),
    "after a WebP's end": (saved("WEBP") + TEXT.encode(), "webp.after_end", TEXT),
}


@pytest.mark.parametrize("name", FILES)
def test_a_text_is_a_channel_exactly_as_it_stands(name: str) -> None:
    data, channel, text = FILES[name]
    assert texts_of_file("a.png", data)[channel] == text


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_file_without_metadata_has_only_its_name(form: str) -> None:
    assert texts_of_file(f"{SENTINEL}.png", saved(form)) == {"file.name": f"{SENTINEL}.png"}


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_the_numbers_of_a_jpeg_are_no_text(mode: str) -> None:
    buffer = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new(mode, (8, 8)).save(buffer, "JPEG", dpi=(72, 72), icc_profile=profile)
    assert texts_of_file("a", buffer.getvalue()) == {"file.name": "a"}


@pytest.mark.parametrize("mark", [b"", b"\xff\xfe"])
def test_a_plain_text_that_could_be_utf_16_is_read_as_both(mark: bytes) -> None:
    data = png_with(b"tEXt", b"Title\x00" + mark + b"a zorblax." + "ζ tea for two".encode("utf-16-le"))
    text = texts_of_file("a", data)["png.Title"]
    assert "zorblax" in text
    assert "ζ tea for two" in text


def test_both_readings_of_a_text_are_kept_where_neither_is_likelier() -> None:
    hidden = "зорблакс"
    data = saved("JPEG", exif=exif({0x9C9C: hidden.encode("utf-16-be")}))
    assert hidden in texts_of_file("a.jpg", data).values()


def test_texts_of_one_name_are_numbered() -> None:
    assert list(texts_of_file("a.png", png(("Comment", "one"), ("Comment", "two")))) == [
        "file.name",
        "png.Comment",
        "png.Comment.2",
    ]


CARRIERS: tuple[Callable[[str], bytes], ...] = (
    lambda text: png(("parameters", text), international=True),
    lambda text: saved("JPEG", comment=text.encode()),
    lambda text: saved("WEBP", exif=exif({}, deeper={0x9286: b"UNICODE\x00" + text.encode("utf-16-be")})),
)


def test_every_disguise_in_metadata_is_a_channel_exactly_as_it_stands() -> None:
    for number, disguise in enumerate(ALL.values()):
        found = texts_of_file("a", CARRIERS[number % len(CARRIERS)](disguise))
        request = GenerationRequest("tea", Principal("p"), extra_texts=found)
        assert disguise in request.texts.values(), disguise


async def test_the_local_screen_reads_metadata() -> None:
    found = texts_of_file("a.png", png(("parameters", "a z0rbl4x\nSteps: 3")))
    request = GenerationRequest("tea", Principal("p"), extra_texts=found)
    assert (await sentinel_screen().screen_prompt(request, ())).scores == {"sentinel": 1.0}


LONG = "tea " * MAX_PROMPT_CHARS
TOO_LONG = {
    "png.prompt": png(("prompt", LONG)),
    "png.workflow": png(("workflow", "tea " * 2**20), zipped=True),
    "png.Comment": png(("Comment", "tea " * 2**20), zipped=True, international=True),
    "jpeg.comment": saved("JPEG", comment=LONG.encode()),
    "xmp": saved("WEBP", xmp=LONG.encode()),
    "exif.UserComment": saved("JPEG", exif=exif({}, deeper={0x9286: b"ASCII\x00\x00\x00" + LONG.encode()})),
}


@pytest.mark.parametrize("channel", TOO_LONG)
def test_a_text_that_is_too_long_is_refused_and_not_cut(channel: str) -> None:
    with pytest.raises(InvalidRequest, match="no more are read") as refused:
        texts_of_file("a", TOO_LONG[channel])
    assert refused.value.field == channel


def test_the_longest_text_is_read() -> None:
    text = "ж" * MAX_PROMPT_CHARS
    assert texts_of_file("a", png(("Comment", text), zipped=True, international=True))["png.Comment"] == text


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"file\.name"):
        texts_of_file("x" * (MAX_PROMPT_CHARS + 1), saved("PNG"))


def test_too_many_texts_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=str(MAX_TEXTS)):
        texts_of_file("a", png(*[("Comment", "tea")] * (MAX_TEXTS + 1)))


def test_too_much_text_in_all_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=str(MAX_TOTAL_CHARS)):
        texts_of_file("a", png(*[("Comment", "x" * MAX_PROMPT_CHARS)] * 5))


def loop() -> bytes:
    # A directory without entries that is followed by itself.
    return b"MM\x00*" + struct.pack(">IHI", 8, 0, 8)


def chain(length: int) -> bytes:
    return b"MM\x00*" + struct.pack(">I", 8) + b"".join(struct.pack(">HI", 0, 14 + 6 * k) for k in range(length))


BROKEN = {
    "a GIF": saved("GIF"),
    "nothing": b"",
    "a PNG that breaks off": saved("PNG")[:40],
    "a PNG without an end": saved("PNG")[:-12],
    "a JPEG that breaks off": saved("JPEG")[:100],
    "a JPEG segment of no length": jpeg_with(0xE5, b"")[:4] + b"\x00\x00" + saved("JPEG")[2:],
    "a JPEG with something between its segments": b"\xff\xd8\xff\xe0\x00\x02tea" + saved("JPEG")[2:],
    "a WebP that breaks off": saved("WEBP")[:-6],
    "a text without a keyword": png_with(b"tEXt", b"tea"),
    "an international text that breaks off": png_with(b"iTXt", b"Title\x00\x00\x00en"),
    "a compressed text that breaks off": png_with(b"zTXt", b"Title\x00\x00" + zlib.compress(b"tea" * 99)[:9]),
    "a compressed text that is none": png_with(b"zTXt", b"Title\x00\x00tea"),
    "EXIF without a byte order": png_with(b"eXIf", b"tea tea tea"),
    "EXIF that breaks off": png_with(b"eXIf", exif({0x010E: "tea"})[6:20]),
    "EXIF with a text outside": png_with(b"eXIf", b"MM\x00*" + struct.pack(">IHHHII", 8, 1, 0x010E, 2, 99, 999)),
    "EXIF with a directory at no place": png_with(b"eXIf", b"MM\x00*" + struct.pack(">IHHHII", 8, 1, 0x8769, 2, 4, 0)),
    "EXIF with too many directories": png_with(b"eXIf", chain(99)),
    "odd UTF-16": saved("JPEG", exif=exif({}, deeper={0x9286: b"UNICODE\x00tea"})),
    "JIS that is none": saved("JPEG", exif=exif({}, deeper={0x9286: b"JIS\x00\x00\x00\x00\x00\xff\xff"})),
    "IPTC that breaks off": jpeg_with(0xED, b"Photoshop 3.0\x00" + photoshop(0x0404, iptc(120, b"tea")[:-1])),
    "IPTC that is none": jpeg_with(0xED, b"Photoshop 3.0\x00" + photoshop(0x0404, b"tea")),
    "a Photoshop block that breaks off": jpeg_with(0xED, b"Photoshop 3.0\x008BIM\x04"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_refused_without_quoting_it(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        texts_of_file("a", BROKEN[name])
    assert refused.value.field == "file"
    assert "tea" not in str(refused.value)


def test_directories_that_follow_themselves_are_read_once() -> None:
    assert texts_of_file("a", png_with(b"eXIf", loop())) == {"file.name": "a"}


@pytest.mark.parametrize("name", ["a\x00b", "a\udc80b"])
def test_a_name_that_no_store_can_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"file\.name"):
        texts_of_file(name, saved("PNG"))


@given(st.sampled_from(sorted(FILES)), st.data())
def test_damaged_files_are_read_or_refused_and_never_anything_else(name: str, data: st.DataObject) -> None:
    content = bytearray(FILES[name][0])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    for each in (bytes(content), cut):
        try:
            found = texts_of_file("a", each)
        except InvalidRequest:
            continue
        assert all(len(text) <= MAX_PROMPT_CHARS for text in found.values())
