// Keeps the height at the foot of every page, and the whole first page, as new as the node: Server-Sent Events say
// that something is new, the page asks for it.  Without this script every page still shows what was true on loading.
"use strict";

(() => {
  const at = (name) => document.querySelector(`[data-live="${name}"]`);
  let height = Number(at("height").textContent);
  let isFetching = false;
  let isStale = false;

  async function refresh() {
    const target = at("now");
    if (!target) return;
    if (isFetching) { isStale = true; return; }
    isFetching = true;
    try {
      const answer = await fetch("/now");
      if (answer.ok && !target.contains(document.activeElement)) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        target.replaceChildren(...page.body.childNodes);
      }
    } catch {
      // The stream says below that the node does not answer.
    } finally {
      isFetching = false;
      if (isStale) { isStale = false; refresh(); }
    }
  }

  function follow() {
    const stream = new EventSource("/events");
    stream.addEventListener("now", (event) => {
      const now = JSON.parse(event.data).height;
      at("state").textContent = "live";
      at("height").textContent = now;
      if (now !== height) at("said").textContent = `Block ${now} has come.`;
      height = now;
      refresh();
    });
    stream.addEventListener("error", () => { at("state").textContent = "the node does not answer"; });
    addEventListener("pagehide", () => stream.close());
  }

  addEventListener("pageshow", (event) => { if (event.persisted) follow(); });
  follow();
})();
