"""What a reader does on the pages, in a real browser. Runs in the environment `browser`, called by tests/test_browser.py.

python browse.py CHROMIUM SUMMARY.html STONE.html SCREENSHOTS [quick]        prints what was seen as JSON; quick: of the first view alone
"""

import json
import sys
from pathlib import Path

import axe_core_python
from playwright.sync_api import sync_playwright

AXE = Path(axe_core_python.__file__).with_name("axe.min.js").read_text()

PAPER = {"width": 740, "height": 1000}
"""What a sheet of A4 leaves between the browser's own margins, in pixels."""


def grave(page) -> list[str]:
    """What axe-core calls serious or critical, by rule and the first element."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [f"{it['id']}: {it['nodes'][0]['html'][:150]}" for it in found if it["impact"] in ("serious", "critical")]


def wide(page) -> int:
    """Pixels by which the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def unfold(page) -> None:
    """Opens every leg's details: closed, their width is not seen, and axe-core takes what they hold for lying one on another."""
    page.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
    page.wait_for_timeout(300)


def names(table) -> list[str]:
    return table.locator("tbody").first.locator("tr:visible th").all_inner_texts()


def summary(page, shots: Path) -> dict:
    seen = {}
    page.screenshot(path=shots / "summary.png")
    page.locator("section", has=page.locator("#overview")).screenshot(path=shots / "overview.png")
    table = page.locator("table.ranking").first
    seen["order"] = names(table)
    for column in ("framework", "per second", "K80"):
        head = table.locator("thead th", has_text=column).first
        head.locator("button").click()
        seen[f"ascending {column}"], seen["sorted"] = names(table), head.get_attribute("aria-sort")
        head.locator("button").press("Enter")
        seen[f"descending {column}"] = names(table)
    field = page.get_by_label("Only rows with").first
    field.fill("julia")
    seen["filtered"] = table.locator("tbody tr:visible").count()
    seen["counted"] = page.locator("output").first.inner_text()
    field.fill("")
    link = page.locator("table.grid td a").first
    target = page.locator(link.get_attribute("href"))
    seen["closed"] = target.is_visible()
    link.click()
    page.wait_for_timeout(200)
    seen["opened"] = target.is_visible()
    page.screenshot(path=shots / "leg.png")
    target.get_by_role("link", name="beside").click()
    page.wait_for_timeout(200)
    seen["hash"], seen["code"] = page.evaluate("location.hash"), page.locator("#rows").inner_text()
    seen["in sight"] = page.evaluate("document.getElementById('bar').getBoundingClientRect().top < innerHeight / 2")
    page.screenshot(path=shots / "beside.png")
    page.locator("#right").select_option(label="Flux")
    seen["chosen"] = page.evaluate("location.hash")
    link.click()
    page.wait_for_timeout(200)
    seen["kept"] = page.locator("#right").input_value()
    return seen


def printed(page, shots: Path, name: str) -> dict:
    """The page as paper has it: its text, and what of it can only be clicked or typed into."""
    page.emulate_media(media="print")
    controls = page.locator("nav, input, select, output, .skip, .picker, .filter, .tasks").locator("visible=true")
    seen = {"text": page.inner_text("body"), "controls": controls.count()}
    seen["tables"] = [page.locator("table").locator("visible=true").count(), page.locator("table").count()]
    seen["wide"] = page.evaluate("Math.max(...[...document.querySelectorAll('table')].map((it) => it.offsetWidth))")
    page.pdf(path=shots / f"{name}.pdf")
    return seen | {"bytes": (shots / f"{name}.pdf").stat().st_size}


def stone(page, shots: Path) -> dict:
    seen = {}
    page.locator("#left").select_option(label="PyTorch")
    page.locator("#right").select_option(label="Flux")
    seen["hash"] = page.evaluate("location.hash")
    seen["code"] = page.locator("#rows").inner_text()
    page.screenshot(path=shots / "stone.png")
    page.locator("#swap").click()
    seen["swapped"] = page.evaluate("location.hash")
    return seen


def main(chromium: str, summary_page: str, stone_page: str, folder: str, extent: str = "all") -> None:
    shots = Path(folder)
    shots.mkdir(parents=True, exist_ok=True)
    seen, errors = {}, []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, path, look in (("summary", summary_page, summary), ("stone", stone_page, stone)):
            address = Path(path).resolve().as_uri()
            for scheme, width in (("light", 1280), ("dark", 1280), ("light", 400)):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page.on("pageerror", lambda error: errors.append(str(error)))
                page.on("request", lambda request: request.url.startswith("file:") or errors.append(request.url))
                page.goto(address)
                paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
                found = {"paper": paper, "wide": wide(page)}
                if (scheme, width) == ("light", 1280):
                    found |= look(page, shots)
                else:
                    page.screenshot(path=shots / f"{name}-{scheme}-{width}.png")
                unfold(page)
                found["wide"] = max(found["wide"], wide(page))
                if extent == "all":
                    found["axe"] = grave(page)
                seen[f"{name} {scheme} {width}"] = found
                page.close()
                if extent == "quick":
                    print(json.dumps({**seen, "errors": errors}))
                    return
            paper = browser.new_page(viewport=PAPER)
            paper.goto(address)
            seen[f"{name} printed"] = printed(paper, shots, name)
            paper.close()
            plain = browser.new_context(java_script_enabled=False).new_page()
            plain.goto(address)
            seen[f"{name} plain"] = {"text": len(plain.inner_text("body")), "tables": plain.locator("table").count()}
    print(json.dumps({**seen, "errors": errors}))


if __name__ == "__main__":
    main(*sys.argv[1:])
