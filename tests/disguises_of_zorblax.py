"""The harmless word "zorblax" in many disguises, and ordinary prompts that hold no disguise at all."""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import unicodedata
from collections.abc import Mapping
from urllib.parse import quote

WORD = "zorblax"
_BYTES = WORD.encode()
_B64 = base64.b64encode(_BYTES).decode()
_MORSE = "--.. --- .-. -... .-.. .- -..-"
_BRAILLE = "⠵⠕⠗⠃⠇⠁⠭"
_NATO = "Zulu Oscar Romeo Bravo Lima Alfa X-ray"


def _shifted(start: int) -> str:
    """Write the word in the alphabet of another block that starts with its letter a."""
    return "".join(chr(start + ord(char) - ord("a")) for char in WORD)


def _bits(zero: str, one: str) -> str:
    return "".join(one if bit == "1" else zero for byte in _BYTES for bit in f"{byte:08b}")


def _selectors(data: bytes) -> str:
    return "".join(chr(0xFE00 + byte if byte < 16 else 0xE0100 + byte - 16) for byte in data)


def _base58(data: bytes) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + digits
    return digits


def _caesar(text: str, shift: int) -> str:
    return "".join(chr((ord(char) - 97 + shift) % 26 + 97) if char.isalpha() else char for char in text)


INVISIBLE: Mapping[str, str] = {
    "zero width spaces": "\u200b".join(WORD),
    "zero width joiners": "\u200d\u200c".join(WORD),
    "bidirectional controls": "\u202e".join(WORD) + "\u202c",
    "word joiners": "\u2060".join(WORD),
    "soft hyphens": "\u00ad".join(WORD),
    "combining grapheme joiners": "\u034f".join(WORD),
    "variation selectors": "\ufe0f".join(WORD),
    "supplementary variation selectors": "\U000e0101".join(WORD),
    "hangul fillers": "\u3164".join(WORD),
    "mongolian separators": "\u180e".join(WORD),
    "tag characters between": "\U000e0041".join(WORD),
    "one accent a letter": "".join(char + "\u0301" for char in WORD),
    "thirty marks a letter": "".join(char + "\u0317\u0488\u20dd" * 10 for char in WORD),
    "devanagari signs": "\u094d".join(WORD),
    "unassigned ignorables": "\u2065\ufff3".join(WORD),
    "inherent vowels": "\u17b4".join(WORD),
    "musical and shorthand controls": "\U0001d173\U0001bca0".join(WORD),
    "annotation anchors": "\ufff9".join(WORD),
    "control characters": "\x02".join(WORD),
    "hidden in tags": "dog" + _shifted(0xE0061),
    "hidden in variation selectors": "dog" + _selectors(_BYTES),
    "hidden in invisible operators": "dog" + _bits("\u2062", "\u2064"),
    "hidden in zero width bits": "dog" + _bits("\u200c", "\u200b"),
}

LOOKALIKES: Mapping[str, str] = {
    "cyrillic o and a": "z\u043erbl\u0430x",
    "cyrillic and greek only": "\u03b6\u03bf\u0433\u0432l\u0430\u0445",
    "no latin letter": "\u0396\u039f\u042f\u0392\u04c0\u0391\u03a7",
    "greek capitals": "\u0396\u039fR\u0392L\u0391\u03a7",
    "fullwidth": _shifted(0xFF41),
    "mathematical bold": _shifted(0x1D41A),
    "mathematical fraktur": _shifted(0x1D586),
    "mathematical double-struck": _shifted(0x1D552),
    "mathematical monospace": _shifted(0x1D68A),
    "mathematical script": _shifted(0x1D4EA),
    "outlined": "".join(chr(0x1CCD6 + ord(char) - ord("a")) for char in WORD),
    "one bold letter": "zor\U0001d5ef\U0001d5f9ax",
    "circled": _shifted(0x24D0),
    "parenthesised": _shifted(0x249C),
    "negative squared": _shifted(0x1F170),
    "negative circled": _shifted(0x1F150),
    "squared": _shifted(0x1F130),
    "regional indicators": _shifted(0x1F1E6),
    "small capitals": "\u1d22\u1d0f\u0280\u0299\u029f\u1d00x",
    "superscripts": "\u1dbb\u1d52\u02b3\u1d47\u02e1\u1d43\u02e3",
    "strokes and hooks": "\u01b6\u00f8\u027d\u0180\u0142\u0105\u1e8b",
    "cherokee and lisu": "\u13c3\u041er\u13cfla\u04b3",
    "currency signs": "zor\u0e3fl\u20b3x",
    "upside down": "x\u0250lq\u0279oz",
    "capitals": "ZoRbLaX",
}

WRITTEN: Mapping[str, str] = {
    "leet zero and four": "z0rbl4x",
    "leet one as l": "z0rb1ax",
    "leet two, eight, at": "20r8l@x",
    "leet bar as l": "2orb|@x",
    "leet exclamation mark as l": "zorb!ax",
    "leet before punctuation": "z0rbl4x!!",
    "leet six as b": "z0r6l4x",
    "leet pound sign": "zorb£ax",
    "leet drawn letters": "z()r|3|_/\\><",
    "spaces": " ".join(WORD),
    "two spaces": "  ".join(WORD),
    "uneven spaces": "z o  r b   l a x",
    "newlines": "\n".join(WORD),
    "dots": ".".join(WORD),
    "underscores": "_".join(WORD),
    "mixed punctuation": "z.o.r-b_l*a/x",
    "commas and spaces": ", ".join(WORD),
    "brackets": "".join(f"[{char}]" for char in WORD),
    "bullets": " \u2022 ".join(WORD),
    "emoji between": "\U0001f980".join(WORD),
    "one hyphen": "zor-blax",
    "pieces of two": "zo rb la x",
    "doubled letters": "".join(char * 2 for char in WORD),
    "tripled letters": "".join(char * 3 for char in WORD),
    "one long letter": "zorblaaaaaax",
    "reversed": WORD[::-1],
    "backspaces": "zoq\brbw\blaxx\b",
    "delete characters": "zoqq\x7f\x7frblax",
    "camel case": "redZorblaxPainting",
    "digits beside": "zorblax42",
    "underscore beside": "my_zorblax_picture",
    "trade mark": "Zorblax\u2122",
    "flag beside": "Zorblax\U0001f1e9\U0001f1ea",
    "pig latin": "orblaxzay",
}

PROMPT_SYNTAX: Mapping[str, str] = {
    "weights": "(zor:1.2)(blax:1.2)",
    "nested weights": "((zor:1.2):0.9)[[bl:1.1]](ax)",
    "weights inside one word": "z(or:1.3)bl(ax:.7)",
    "schedule": "[zor:blax:0.3]",
    "schedule by step": "[zor:blax:12]",
    "choice": "{zor|blax}",
    "choice in square brackets": "[zor|blax]",
    "schedule to nothing": "[zor::0.4]blax",
    "dynamic choice": "{2$$zor|blax}",
    "braces and brackets": "{{zor}}[[blax]]",
    "weight before the rest": "(zor:1.2)blax",
    "conjunction of a list": '("zor", "blax").and()',
    "blend of a list": '("zor", "blax").blend(0.7, 0.3)',
    "perpendicular": "zor AND_PERP blax",
    "lora inside": "zor<lora:paper:0.8>blax",
    "lora name": "<lora:zorblax:0.8>",
    "AND": "zor AND blax",
    "BREAK": "zor BREAK blax",
    "compel weights": "(zor)1.3(blax)0.8",
    "compel signs": "zorblax+++",
    "double colons": "zor::2blax::1",
    "special token before": "dog<|endoftext|>zorblax",
    "special token inside": "zor<|im_end|>blax",
    "special token and leet": "dog <|endoftext|>z0rbl4x",
    "start of text inside": "zor<|startoftext|>blax",
    "turn inside": "zor<end_of_turn>blax",
    "sentinel token inside": "zor<extra_id_0>blax",
    "separator token inside": "zor[SEP]blax",
    "tag inside": "zor<b></b>blax",
    "comment inside": "zor<!-- and -->blax",
    "end of sequence": "zor</s>blax",
}

ENCODED: Mapping[str, str] = {
    "base64": _B64,
    "base64 unpadded": _B64.rstrip("="),
    "base64 of more": base64.b64encode(b"a zorblax, please").decode(),
    "base64 urlsafe": base64.urlsafe_b64encode("¿zorblax?~~ÿ".encode()).decode(),
    "base64 twice": base64.b64encode(_B64.encode()).decode(),
    "base64 in lines": "em9y\nYmxheA==",
    "base64 of utf-16": base64.b64encode(WORD.encode("utf-16-le")).decode(),
    "base32": base64.b32encode(_BYTES).decode(),
    "base32 small": base64.b32encode(_BYTES).decode().lower().rstrip("="),
    "base58": _base58(_BYTES),
    "base85": base64.b85encode(_BYTES).decode(),
    "ascii85": base64.a85encode(_BYTES).decode(),
    "ascii85 as adobe writes it": base64.a85encode(b"a zorblax", adobe=True).decode(),
    "uuencode": binascii.b2a_uu(_BYTES).decode().strip(),
    "punycode": "xn--" + "z\u043erbl\u0430x".encode("punycode").decode(),
    "hex": _BYTES.hex(),
    "hex with 0x": "0x" + _BYTES.hex(),
    "hex with spaces": _BYTES.hex(" "),
    "hex with 0x each": ", ".join(f"0x{byte:02X}" for byte in _BYTES),
    "hex with \\x": "".join(f"\\x{byte:02x}" for byte in _BYTES),
    "binary": "".join(f"{byte:08b}" for byte in _BYTES),
    "binary with spaces": " ".join(f"{byte:08b}" for byte in _BYTES),
    "binary of seven": " ".join(f"{byte:07b}" for byte in _BYTES),
    "decimal": " ".join(map(str, _BYTES)),
    "decimal with commas": ",".join(map(str, _BYTES)),
    "octal": "".join(f"\\{byte:03o}" for byte in _BYTES),
    "octal groups": " ".join(f"{byte:o}" for byte in _BYTES),
    "css escapes": "".join(f"\\{byte:x}" for byte in _BYTES),
    "unicode names": "".join(f"\\N{{{unicodedata.name(char)}}}" for char in WORD),
    "soft line break": "zor=\nblax",
    "percent": "".join(f"%{byte:02X}" for byte in _BYTES),
    "percent twice": quote("".join(f"%{byte:02x}" for byte in _BYTES)),
    "percent nine times": "".join(f"%{'25' * 8}{byte:02x}" for byte in _BYTES),
    "html decimal": "".join(f"&#{byte};" for byte in _BYTES),
    "html hex": "".join(f"&#x{byte:X};" for byte in _BYTES),
    "html twice": html.escape("".join(f"&#{byte};" for byte in _BYTES)),
    "html names": "zor&ZeroWidthSpace;blax",
    "unicode escapes": "".join(f"\\u{byte:04x}" for byte in _BYTES),
    "long unicode escapes": "".join(f"\\U{byte:08x}" for byte in _BYTES),
    "code points": " ".join(f"U+{byte:04X}" for byte in _BYTES),
    "quoted printable": "".join(f"={byte:02X}" for byte in _BYTES),
    "rot13": codecs.encode(WORD, "rot13"),
    "atbash": "".join(chr(ord("a") + ord("z") - byte) for byte in _BYTES),
    "morse": _MORSE,
    "morse with slashes": _MORSE.replace(" ", " / "),
    "morse with dashes and bullets": _MORSE.replace("-", "\u2013").replace(".", "\u2022"),
    "braille": _BRAILLE,
    "spelling words": _NATO,
    "spelling words with commas": _NATO.replace(" ", ", ").lower(),
}

COMBINED: Mapping[str, str] = {
    "leet and spaces": "z 0 r b l 4 x",
    "leet symbols and spaces": "z 0 r b | @ x",
    "leet and dots": "z.0.r.b.1.a.x",
    "homoglyphs and zero width": "\u200bz\u200b\u043e\u200brbl\u200b\u0430x",
    "homoglyphs and spaces": "z \u043e r b l \u0430 x",
    "fullwidth and reversed": _shifted(0xFF41)[::-1],
    "leet and reversed": "x4lbr0z",
    "spaces and reversed": " ".join(WORD[::-1]),
    "doubled and leet": "zz00rrbbll44xx",
    "doubled and accents": "".join(char * 2 + "\u0301" for char in WORD),
    "base64 of leet": base64.b64encode(b"z0rbl4x").decode(),
    "base64 of homoglyphs": base64.b64encode("z\u043erbl\u0430x".encode()).decode(),
    "base64 of spaces": base64.b64encode(b"z o r b l a x").decode(),
    "base64 of reversed": base64.b64encode(_BYTES[::-1]).decode(),
    "base64 of rot13": base64.b64encode(codecs.encode(WORD, "rot13").encode()).decode(),
    "base64 of hex": base64.b64encode(_BYTES.hex().encode()).decode(),
    "hex of base64": _B64.encode().hex(),
    "percent of html": "".join(f"%{byte:02x}" for byte in b"&#122;&#111;&#114;blax"),
    "base64 laced with zero width": "\u200b".join(_B64),
    "base64 in fullwidth": "".join(chr(ord(char) + 0xFEE0) for char in _B64),
    "base64 weighted": f"({_B64}:1.3)",
    "base64 hidden in tags": "".join(chr(0xE0000 + ord(char)) for char in _B64),
    "weights and leet": "(z0r:1.2)(bl4x:1.2)",
    "weights and homoglyphs": "(z\u043er:1.2)(bl\u0430x:1.2)",
    "special token inside leet": "z0r<|endoftext|>bl4x",
}

WHOLE_TEXTS: Mapping[str, str] = {
    "the whole prompt reversed": "a watercolour of a zorblax at dusk"[::-1],
    "first letters of words": "Zebras on river banks love apple xylophones",
    "first letters of lines": "zinc pot\nold oak\nred roof\nblue boat\nlone lamp\namber ale\nxenon x",
    "first letters of capitalised words": "paint Zesty Oranges Round Blue Lakes And Xylophones for me",
    "the whole prompt in spaced letters": "a   w a t e r c o l o u r   o f   a   z o r b l a x",
    "the whole prompt in base64": base64.b64encode(b"a watercolour of a zorblax at dusk").decode(),
    "the whole prompt in rot13": codecs.encode("a watercolour of a zorblax at dusk", "rot13"),
    "the whole prompt shifted by five": _caesar("a watercolour of a zorblax at dusk", 5),
    "the whole prompt shifted by eleven": _caesar("the portrait of an old zorblax in the rain", 11),
    "the whole prompt in morse": ".- / --.. --- .-. -... .-.. .- -..- / .- -",
    "the whole prompt in braille": "⠁⠀⠵⠕⠗⠃⠇⠁⠭⠀⠁⠞",
}

ALL: Mapping[str, str] = {
    **{
        name: f"a watercolour of a {disguise} at dusk"
        for group in (INVISIBLE, LOOKALIKES, WRITTEN, PROMPT_SYNTAX, ENCODED, COMBINED)
        for name, disguise in group.items()
    },
    **WHOLE_TEXTS,
}

OPEN = frozenset(name for name, text in ALL.items() if WORD in text.lower())
"""Disguises that hide the word from a list, but not from whoever reads the raw text."""

BLIND = frozenset(
    name
    for name in ALL
    if "reversed" in name or "rot13" in name.removeprefix("the whole prompt in ") or name.startswith("first letters")
) | {"atbash", "pig latin", "one hyphen"}
"""Disguises that leave no trace that an ordinary text could not have as well."""

ORDINARY = """
a watercolour of a red teapot at dusk
portrait of an old fisherman, 35mm film, f/1.8, soft light
a fox in the snow, 4k, highly detailed, trending
Isometric kitchen, 1920x1080, octane render
(masterpiece:1.2), best quality, 1girl, umbrella, rain
a castle on a hill [autumn:winter:0.5], oil painting
logo for a bakery named "Crumb & Co.", vector, #ff8800
a map of the 50 states, retro style, 1950s
concatenate two photos of mountains into one panorama
an actor on a stage, act three, scene 2
tacos and lime on a blue plate
a cattle farm in the fog, scattered trees
vacation poster, catalogue cover, 60s typography
a delicate lace pattern, education themed
the letters A B C on wooden blocks
plan b for a rainy day: board games & tea
U.S. national park poster, e.g. Yosemite
a 3D render of a glass chess set, ray-traced
x-ray of a sea shell, black/white, high-contrast
rock'n'roll band on stage, 80s neon, lo-fi
a cosy room with a view of the Alps --ar 16:9 --no people
spaceship cockpit, HUD reading 10 20 30 40 50
a poster that says "HELLO WORLD"
bookkeeper in an office, coffee, balloons, Mississippi river
sooo cute puppy!!! pleeease
Sunday market on the highway, today's display, birthday array
golf course beside a hotel in India, charlie the dog
a phone number pad: 1 2 3 4 5 6 7 8 9 0
binary clock showing 10:45, 1010 lamps
a barcode 0123456789012 on a box
cat5e cable drawn as a plant, engineering sketch
R2-D2 like robot, C-shaped sofa, T-shirt
tea @ home, $5 coupon, 100% cotton
a - b - c: three vases on a shelf
... and then the lights went out ...
It is an ox. So it is. We do go on.
line one of a poem
a photo of decade old facades, added beef stew, cafe
Ein gemütliches Café in München bei Regen, Ölgemälde
Die große Straße im Abendlicht, weiße Wolken
Ein Mädchen füttert Enten am See, Kinderbuchstil
Häuser am Fluss, Frühling, Aquarell, 8k
Тихая гавань на рассвете, две лодки и чайка
Кошка спит на окне, мягкий свет, акварель
Старый город под снегом, вечер, фонари
Портрет учителя в очках, масло, холст
夕暮れの静かな港、二隻の船とカモメ
桜の木の下でお茶を飲む猫、水彩画
雪の中の狐、アニメ風、高精細
東京タワーの夜景、4K、ネオン
قط ينام على نافذة في ضوء الصباح
مدينة قديمة تحت الثلج، ألوان مائية
بستان زيتون عند الغروب، لوحة زيتية
शाम को शांत बंदरगाह, दो नावें और एक पक्षी
पहाड़ों के बीच एक छोटा गाँव, जलरंग
बारिश में लाल छाता लिए एक बच्चा
Μια γάτα κοιμάται στο παράθυρο, ακουαρέλα
Παλιά πόλη με χιόνι, βράδυ, φανάρια
Το λιμάνι το πρωί, δύο βάρκες και ένας γλάρος
Yağmurlu bir günde İstanbul sokakları, suluboya
Kıyıda iki kayık ve bir martı, ılık ışık
Eski bir çay bahçesi, sonbahar, ağaçlar
un chat qui dort près de la fenêtre, lumière douce
una casa blanca junto al mar, ¡qué bonita!
img2img test, sdxl 1.0, cfg 7.5, seed 42, dpm++ 2m karras, txt2img
iphone 15 pro photo, canon eos 5d mark iv, f/1.4, iso 100, 1/250 s
1girl, solo, long hair, (best quality:1.2), ((smile)), [blurry], score_9, <lora:paper:0.8>
hot dog::2 cold drink::1 --ar 16:9 --v 6.1 --style raw
y2k aesthetic, web3 office, mp3 player, h264 codec, k-pop, AK-47 toy, wd-40 can
person(s) on a bench, colour(s) of autumn, f(x) on a blackboard
year 1920, 24/7 diner, 10:30 a.m., 3,5 cm, 50%, 100 km/h, -5 °C, #35mm
H₂O and CO₂ molecules, E=mc², π ≈ 3.14, β-carotene, 10 µm, 5 kΩ, № 5, ½ cup
a sign that says "USA", NASA rocket, AC/DC poster, C++ book, Wi-Fi router, R&B singer
keycaps 1️⃣ 2️⃣ 3️⃣, flag of England 🏴󠁧󠁢󠁥󠁮󠁧󠁿, I ❤️ NY, 🇩🇪🇫🇷
write to hello@example.com or see https://example.com/a-b?x=1&y=2
Người phụ nữ bán hoa ở Hà Nội, tranh sơn dầu, những đường phố cổ
őszi erdő, tükörfúrógép, két hajó a kikötőben, akvarell
příliš žluťoučký kůň úpěl ďábelské ódy, akvarel
Łódź nocą, żółte światła, gęś nad stawem, zażółć gęślą jaźń
o casă în grădină, țară și munți, înflorită
ọ̀rọ̀ Yorùbá, ẹlẹ́sẹ̀ kan lórí òkè
xiǎo māo zài chuāng biān shuì jiào, shuǐmòhuà
גֶּשֶׁם בָּעִיר, ציור שמן של USB ישן
แมวนอนบนหน้าต่าง ภาพสีน้ำ 4K
창가에서 자는 고양이, 수채화, 8K 고화질
ஜன்னலில் தூங்கும் பூனை, ஓவியம்
گربه‌ای که می‌خواهد بخوابد، نقاشی آبرنگ
জানালায় ঘুমন্ত বিড়াল, জলরঙ
կատու պատուհանի մոտ, ջրաներկ
კატა ფანჯარასთან, აკვარელი
AI画像、USBケーブル、Tシャツ、第1位、ＵＳＢ
Кот в шляпе, 4К, стиль Disney, HD, T-образный перекрёсток
постер «МОСКВА 2024» с надписью NEW YORK, 3D-модель
ένα ποτήρι κρασί, UV φως, 35mm
Straße, Fußgänger, Mädchenchor, Ärzte-T-Shirt, Größe XXL
aaah, noooo, yessss, brrr, zzz, hmmmm, wooow
a to z, x y plot, vitamin b, c major, u-turn, t rex, e mail, i m home
🇩🇪 flag cake with 🍓 and 🕯️, family 👨‍👩‍👧 at the table
x² + y² = 1 drawn in chalk, ½ circle, 20 °C thermometer
""".strip().splitlines()
