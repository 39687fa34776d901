"""The chat page in a real browser: Debian's `chromium` and `chromium-driver`, where they are there."""

import json
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no browser: apt-get install -y --no-install-recommends chromium chromium-driver",
)
WAIT = 120


def open_browser(width=1100, height=900):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--window-size={width},{height}",
        # Proves that nothing outside is asked for: no other name or address can be reached.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


@pytest.fixture(scope="module")
def browser():
    driver = open_browser()
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, url):
    """The page without anything kept from before, few tokens per answer."""
    browser.get(url + "/version")
    browser.execute_script(
        "localStorage.clear();"
        "localStorage.setItem('step3.settings',"
        " JSON.stringify({max_tokens: '12', temperature: '0'}))"
    )
    browser.get(url + "/")
    until(browser, lambda: "tokens of context" in one(browser, "status").text)
    yield browser
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    unexpected = [entry for entry in severe if "v1/chat/completions" not in entry["message"]]
    assert not unexpected, unexpected


def all_of(browser, test_id):
    return browser.find_elements(By.CSS_SELECTOR, f"[data-testid='{test_id}']")


def one(browser, test_id):
    return all_of(browser, test_id)[-1]


def until(browser, condition):
    return WebDriverWait(browser, WAIT, ignored_exceptions=[Exception]).until(
        lambda _: condition()
    )


def say(browser, text):
    one(browser, "input").send_keys(text, Keys.ENTER)


def is_over(browser):
    return one(browser, "send").is_displayed() and all_of(browser, "regenerate")


def stored(browser):
    return json.loads(
        browser.execute_script("return localStorage.getItem('step3.conversations')")
    )


def choose(browser, test_id, value):
    """Types into a field of the settings and closes them."""
    one(browser, "settings").click()
    field = one(browser, test_id)
    field.clear()
    field.send_keys(value)
    one(browser, "close").click()


def test_answers_stream_and_are_kept(page):
    say(page, "Count from one to five.")
    until(page, lambda: is_over(page))
    answer = one(page, "answer").text
    assert answer
    assert "tokens/s" in one(page, "meta").text
    assert "first after" in one(page, "meta").text
    assert one(page, "gauge").is_displayed()
    page.refresh()
    until(page, lambda: one(page, "answer").text == answer)
    assert stored(page)[0]["title"] == "Count from one to five."


def test_regenerate_edit_and_continue(page):
    say(page, "Say hello.")
    until(page, lambda: is_over(page))
    first = stored(page)[0]["turns"][1]["content"]
    one(page, "regenerate").click()
    until(page, lambda: is_over(page))
    assert stored(page)[0]["turns"][1]["content"] == first
    one(page, "continue").click()
    until(page, lambda: is_over(page))
    turns = stored(page)[0]["turns"]
    assert len(turns) == 2 and turns[1]["content"].startswith(first)
    one(page, "edit").click()
    field = one(page, "edit-input")
    field.clear()
    field.send_keys("Say goodbye.", Keys.ENTER)
    until(page, lambda: is_over(page) and stored(page)[0]["turns"][0]["content"] == "Say goodbye.")
    assert len(stored(page)[0]["turns"]) == 2


def test_stopping_keeps_what_came(page):
    choose(page, "max_tokens", "2000")
    say(page, "Write a very long story about the sea, as long as you can.")
    until(page, lambda: len(one(page, "answer").text) > 5)
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    until(page, lambda: is_over(page))
    assert stored(page)[0]["turns"][1]["finish"] in ("stopped", "stop")


def test_a_schema_shapes_the_answer(page):
    choose(page, "max_tokens", "100")
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    choose(page, "schema", json.dumps(schema))
    say(page, "Which colour has grass?")
    until(page, lambda: is_over(page))
    assert json.loads(stored(page)[0]["turns"][1]["content"])["colour"] in ("red", "green")
    one(page, "settings").click()
    one(page, "schema").send_keys("}", Keys.TAB)
    until(page, lambda: one(page, "schema-error").text != "")
    one(page, "reset").click()
    one(page, "close").click()


def test_conversations_are_found_renamed_moved_and_deleted(page, tmp_path):
    for text in ("About whales.", "About bees."):
        one(page, "new-chat").click()
        say(page, text)
        until(page, lambda: is_over(page))
    titles = lambda: [each.text for each in all_of(page, "open")]  # noqa: E731
    assert titles() == ["About bees.", "About whales."]
    one(page, "search").send_keys("whales")
    until(page, lambda: titles() == ["About whales."])
    one(page, "search").clear()
    one(page, "search").send_keys("x", Keys.BACKSPACE)
    all_of(page, "rename")[0].click()
    one(page, "rename-input").send_keys(Keys.CONTROL, "a")
    one(page, "rename-input").send_keys("Bees", Keys.ENTER)
    until(page, lambda: titles() == ["Bees", "About whales."])
    exported = page.execute_async_script("store.exported(store.conversations).then(arguments[0])")
    all_of(page, "delete")[0].click()
    page.switch_to.alert.accept()
    until(page, lambda: titles() == ["About whales."])
    path = tmp_path / "chats.json"
    path.write_text(exported)
    one(page, "import-file").send_keys(str(path))
    until(page, lambda: len(titles()) == 3)
    assert sorted(titles()) == ["About whales.", "About whales.", "Bees"]


def test_what_the_model_writes_is_text_and_marks(page):
    text = (
        "# Title\n\n**bold** <img src=x onerror=\"document.title='owned'\">\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nprint(1)\n```\n\n"
        "$$\\frac{a}{b}$$\n\n[bad](javascript:alert(1)) [good](https://example.org)\n\n1. one\n2. two"
    )
    page.execute_script(
        "store.current = {...newConversation(), title: 'marks', turns: ["
        "{role: 'user', content: 'hi', done: true},"
        "{role: 'assistant', content: arguments[0], done: true}]}; draw()",
        text,
    )
    answer = one(page, "answer")
    for selector in ("h3", "strong", "table td", "pre code .k, pre code", "math mfrac", "ol li"):
        assert answer.find_elements(By.CSS_SELECTOR, selector), selector
    assert not answer.find_elements(By.TAG_NAME, "img")
    links = [link.get_attribute("href") for link in answer.find_elements(By.TAG_NAME, "a")]
    assert links == ["https://example.org/"]
    assert page.title == "step3"


def test_the_request_can_be_taken_elsewhere(page):
    say(page, "It's me.")
    until(page, lambda: is_over(page))
    one(page, "request").click()
    until(page, lambda: "It's me." in one(page, "raw").text)
    curl = page.execute_async_script(
        "requestBody(store.current, store.current.turns.slice(0, 1)).then((b) =>"
        " arguments[0](asCurl(b)))"
    )
    assert curl.startswith("curl -N 'http") and "It'\\''s me." in curl
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)


def test_errors_are_readable_and_can_be_tried_again(page):
    choose(page, "max_tokens", "100000000")
    say(page, "Hello.")
    until(page, lambda: all_of(page, "error"))
    assert "maximum context length" in one(page, "error").text
    choose(page, "max_tokens", "5")
    one(page, "retry").click()
    until(page, lambda: is_over(page) and not all_of(page, "error"))


def test_small_screens_and_long_answers(page):
    page.set_window_size(500, 800)
    try:
        assert not one(page, "side").is_displayed()
        one(page, "chats").click()
        assert one(page, "side").is_displayed()
        one(page, "chats").click()
        width = page.execute_script("return document.documentElement.scrollWidth - innerWidth")
        assert width <= 0
    finally:
        page.set_window_size(1100, 900)
    # An answer of eight thousand words grows block by block; what stands is not made anew.
    kept, seconds = page.execute_script(
        "const box = document.createElement('div'); let text = ''; const began = performance.now();"
        "let first; for (let i = 0; i < 2000; i++) { text += `word ${i} and *more* of it\\n\\n`;"
        " markdown(box, text); first ??= box.firstChild; }"
        "return [box.firstChild === first && box.children.length === 2000,"
        " (performance.now() - began) / 1000]"
    )
    assert kept
    print(f"2000 updates in {seconds:.1f} s")


def test_axes_of_accessibility(page):
    unnamed = page.execute_script(
        "return [...document.querySelectorAll('button, input, textarea, select')].filter((each) =>"
        " !(each.textContent.trim() || each.getAttribute('aria-label') || each.labels?.length))"
        ".map((each) => each.outerHTML)"
    )
    assert not unnamed
    for tag in ("header", "nav", "main", "footer"):
        assert page.find_elements(By.TAG_NAME, tag)
    one(page, "input").click()
    page.execute_script("document.activeElement.blur()")
    page.find_element(By.TAG_NAME, "body").send_keys("/")
    assert page.switch_to.active_element == one(page, "input")
