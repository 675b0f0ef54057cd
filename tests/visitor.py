"""A visitor in a real browser, in front of the app with the shipped models."""

import dataclasses
import io
import json
import re
import shutil
from urllib.parse import urlencode

import numpy as np
import pytest
import requests
from conftest import WatchedCache
from PIL import Image
from selenium import webdriver
from selenium.webdriver import Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import app
from pipelines import packs

PATIENCE_S = 300
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",  # the painter draws with WebGL, and there is no GPU
    "--window-size=1280,900",
)
SLOW_SCREEN = """
    const draw = requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (frame) => setTimeout(() => draw(frame), 100);
    window.cancelAnimationFrame = clearTimeout.bind(window);
"""
"""Ten frames a second: at sixty, drawing without a GPU would take the cores from the models."""

DISPLAYED = """
    const [css, text] = arguments;
    return [...document.querySelectorAll(css)].filter((one) => {
        const {width, height} = one.getBoundingClientRect();
        const has_room = (width && height) || one instanceof SVGElement;
        return has_room && one.checkVisibility({visibilityProperty: true})
            && (one.innerText ?? one.textContent).includes(text);
    });
"""


@pytest.fixture(scope="module")
def shipped(untrained_pack):
    """The app with the shipped pack; with untrained networks while none is shipped."""
    pack = packs.find("toybox")
    if not (packs.ASSETS / "toybox" / "scenes" / "unet").is_dir():
        pack = untrained_pack
    if not all(part.is_here() for part in packs.FACES.values()):
        faces = {role: untrained_pack.components[role] for role in packs.FACES}
        pack = dataclasses.replace(pack, components={**pack.components, **faces})
    cache = WatchedCache(2**30, packs.LOADERS, packs={pack.name: pack})
    demo = app.build(cache=cache, pack=pack)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_settings())
    yield address.rstrip("/"), cache
    demo.close()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    browser, control = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not control:
        pytest.fail(
            "The browser tests need Chromium and its driver. On Debian, as root: "
            "apt-get install chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(control))
    driver.downloads = downloads
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": SLOW_SCREEN})
    yield driver
    driver.quit()


class Visitor:
    """Hands and eyes on the page."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address
        self.driver.get_log("browser")
        self.driver.get_log("performance")

    def arrive(self, **query):
        """Load the page as a visitor who was never here."""
        if self.driver.current_url.startswith(self.address):
            self.driver.execute_script("sessionStorage.clear()")
        self.driver.get(f"{self.address}/?{urlencode(query)}")

    def open(self, **query):
        self.arrive(**query)
        self.see("#inspect" if query.get("tab") == "mask" else "#run")
        # the page has filled itself in, so nothing overwrites what is typed now
        self.until(lambda: self.inputs()[1].get_attribute("value"))
        return self

    def until(self, condition):
        ignored = (Exception,)  # elements come and go while the page draws
        return WebDriverWait(self.driver, PATIENCE_S, 0.1, ignored).until(lambda _: condition())

    def all(self, css, text=""):
        """What is displayed and shows the text; one question, however many there are."""
        return self.driver.execute_script(DISPLAYED, css, text)

    def see(self, css, text=""):
        return self.until(lambda: next(iter(self.all(css, text)), None))

    def click(self, css, text=""):
        self.driver.execute_script(
            "arguments[0].scrollIntoView({block: 'center'})", self.see(css, text)
        )
        self.until(lambda: self.see(css, text).click() or True)

    def choose(self, *titles):
        """Tick these methods of the tab in front, and no others."""
        self.see("label", titles[0])
        for box in self.all("fieldset label:has(input[type=checkbox])"):
            if box.find_element(By.CSS_SELECTOR, "input").is_selected() != (box.text in titles):
                self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
                box.click()

    def inputs(self):
        """Source and target text of the tab in front."""
        return self.all("textarea")[:2]

    def type(self, box, text):
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)

    def pictures(self, css):
        """Every picture below an element, as arrays."""
        sources = [image.get_attribute("src") for image in self.all(f"{css} img")]
        files = [io.BytesIO(requests.get(source, timeout=30).content) for source in sources]
        return [np.asarray(Image.open(file).convert("RGB"), int) for file in files]

    def pen_in_hand(self):
        """The colour (r, g, b) that the editor's brush shows."""
        button = self.see("#easel button[aria-label=Color]")
        return tuple(map(int, re.findall(r"\d+", button.value_of_css_property("color"))[:3]))

    def requested(self):
        messages = [json.loads(line["message"]) for line in self.driver.get_log("performance")]
        return [
            message["message"]["params"]["request"]["url"]
            for message in messages
            if message["message"]["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self):
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
