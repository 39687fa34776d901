#!/usr/bin/env python3
"""Writes Sources/Tokenization/UnicodeSupplement.swift.

tokenizer.json patterns are written for Oniguruma, whose Unicode tables are newer than those of
PCRE2 10.42 (Unicode 14). This lists, per general category, the code points that the Oniguruma
inside the Python package `tokenizers` puts in the category and Unicode 14 does not, and in full
the scripts that patterns name (PCRE2 means script extensions by a script's name, Oniguruma does
not). Needs Python 3.11 (its `unicodedata` is Unicode 14.0) and `tokenizers`.

    python3.11 Tools/reference/unicode_supplement.py > Sources/Tokenization/UnicodeSupplement.swift
"""

import sys
import unicodedata

import tokenizers
from tokenizers import Regex, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mc Me Mn Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp".split()
SCRIPTS = "Arabic Cyrillic Devanagari Greek Han Hangul Hebrew Hiragana Katakana Latin Thai".split()
CODES = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
TEXT = "".join(map(chr, CODES))


def members(pattern):
    """Code points that a pattern of one character matches."""
    splitter = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(c) for piece, _ in splitter.pre_tokenize_str(TEXT) for c in piece}


def numeric():
    """Code points that the Digits pre-tokenizer takes for digits, each between two letters."""
    found = set()
    splitter = pre_tokenizers.Digits(individual_digits=True)
    candidates = [c for c in CODES if unicodedata.category(chr(c)) in ("Cn", "Nd", "Nl", "No")]
    for start in range(0, len(candidates), 4096):
        text = "".join("aa" + chr(c) + "aa" for c in candidates[start : start + 4096])
        for piece, _ in splitter.pre_tokenize_str(text):
            if len(piece) == 1:
                found.add(ord(piece))
    return found


def ranges(codes):
    runs = []
    for code in sorted(codes):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return runs


def entry(name, codes):
    words = ["%X-%X" % (a, b) if a != b else "%X" % a for a, b in ranges(codes)]
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) > 84:
            lines.append(line)
            line = ""
        line += (" " if line else "") + word
    lines.append(line)
    body = "\n".join("      " + text for text in lines)
    return f'    "{name}": """\n{body}\n      """,'


def main():
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    print(
        "// Written by Tools/reference/unicode_supplement.py from tokenizers "
        f"{tokenizers.__version__}; do not edit.\n"
    )
    print("/// Code points whose properties PCRE2's tables do not give as Oniguruma's do.")
    print("enum UnicodeSupplement {")
    print("  /// By general category: assigned after Unicode 14, as hexadecimal ranges.")
    print("  static let categories: [String: String] = [")
    all_numbers = set()
    for name in CATEGORIES:
        found = members(r"\p{%s}" % name)
        known = {c for c in CODES if unicodedata.category(chr(c)) == name}
        print(
            f"{name}: {len(found)} now, {len(known)} then, left: "
            f"{['%X' % c for c in known - found]}",
            file=sys.stderr,
        )
        if name[0] == "N":
            all_numbers |= found
        if found - known:
            print(entry(name, found - known))
    print("  ]\n")
    print("  /// Numbers to the Digits pre-tokenizer that Oniguruma's tables do not have yet.")
    extra = ranges(numeric() - all_numbers)
    words = " ".join("%X-%X" % (a, b) for a, b in extra)
    print(f'  static let digits = "{words}"\n')
    print("  /// By script, all of it, as hexadecimal ranges.")
    print("  static let scripts: [String: String] = [")
    for name in SCRIPTS:
        print(entry(name, members(r"\p{%s}" % name)))
    print("  ]\n}")


main()
