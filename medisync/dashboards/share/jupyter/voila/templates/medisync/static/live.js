// Keeps an open page live: says to its kernel which version of each part it shows, and puts newer ones in their place.
"use strict";

(() => {
  const content = document.getElementById("content");
  const { kernel, base } = content ? content.dataset : {};
  const connection = document.getElementById("connection");
  const said = document.getElementById("said");

  const PING_MS = 20_000; // how often we ask the kernel whether it is still there
  const ANSWER_MS = 15_000; // and how long it may take to answer
  const RETRY_MS = 2_000;
  const CHANGED_MS = 2_500;
  const CHOICE_MS = 250; // a slider that moves is asked about once it rests
  const COMPLETE = "</html>"; // how a page ends that was sent to its end
  const RELOAD_PAUSE_MS = 20_000; // a page that is broken must not reload itself without end

  let socket = null;
  let comm = null;
  let lostAt = null;
  let pingTimer = 0;
  let answerTimer = 0;
  let isLeaving = false;

  const id = () =>
    crypto.randomUUID ? crypto.randomUUID() : [...crypto.getRandomValues(new Uint32Array(4))].join("-");
  const session = id();
  const clock = (date) => date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const tell = (state, words) => {
    connection.dataset.state = state;
    if (connection.textContent !== words) connection.textContent = words;
  };

  function send(type, fields) {
    const header = {
      msg_id: id(), session, username: "", version: "5.3", msg_type: type, date: new Date().toISOString(),
    };
    socket.send(JSON.stringify({
      header, parent_header: {}, metadata: {}, channel: "shell", buffers: [], content: { comm_id: comm, ...fields },
    }));
  }

  function connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}${base}api/kernels/${kernel}/channels?session_id=${session}`);
    socket.onopen = () => {
      comm = id();
      const shown = [...content.querySelectorAll("[data-part]")];
      const versions = Object.fromEntries(shown.map((part) => [part.dataset.part, part.dataset.version]));
      send("comm_open", { target_name: "medisync.page", data: { viewer: session, versions, choices: wanted() } });
      expectAnswer();
    };
    socket.onmessage = (event) => receive(JSON.parse(event.data));
    socket.onclose = lost;
  }

  function receive(message) {
    const type = message.header.msg_type;
    if (type === "status" && ["dead", "restarting", "autorestarting"].includes(message.content.execution_state)) {
      socket.close();
    } else if (message.content && message.content.comm_id === comm) {
      if (type === "comm_close") socket.close();
      if (type === "comm_msg") answered(message.content.data);
    }
  }

  function answered(data) {
    clearTimeout(answerTimer);
    lostAt = null;
    if ("working" in data) content.setAttribute("aria-busy", String(data.working));
    if (data.working) tell("live", "Computing what you chose");
    if (data.slots) {
      show(data);
      tell(data.trouble ? "lost" : "live", data.trouble || "Live: this page changes by itself");
    }
    clearTimeout(pingTimer);
    pingTimer = setTimeout(() => {
      if (socket.readyState !== WebSocket.OPEN) return;
      send("comm_msg", { data: { ping: true } });
      expectAnswer();
    }, PING_MS);
  }

  function expectAnswer() {
    clearTimeout(answerTimer);
    answerTimer = setTimeout(() => socket.close(), ANSWER_MS);
  }

  function show({ slots, parts, says }) {
    const fresh = new Map(Object.entries(parts).map(([name, html]) => [name, element(html)]));
    for (const slot of content.querySelectorAll("[data-slot]")) {
      const names = slots[slot.dataset.slot] || [];
      const held = new Map([...slot.children].map((part) => [part.dataset.part, part]));
      for (const [name, part] of held) if (!names.includes(name)) part.remove();
      names.forEach((name, place) => {
        const old = held.get(name);
        const part = fresh.get(name) || old;
        if (!part) return;
        if (old && part !== old) replace(old, part);
        if (slot.children[place] !== part) slot.insertBefore(part, slot.children[place] || null);
        if (part !== old) mark(part);
      });
    }
    if (says) said.textContent = `${clock(new Date())} ${says}`;
  }

  // A ring around what is new, for a moment; no animation, which would keep the browser busy all the while.
  function mark(part) {
    part.classList.add("changed");
    setTimeout(() => part.classList.remove("changed"), CHANGED_MS);
  }

  function element(html) {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    return holder.content.firstElementChild;
  }

  // What the viewer chose: told to the kernel, and kept in the address so that it can be shared and reloaded.
  function choices() {
    const form = content.querySelector("form[data-controls]");
    return form ? Object.fromEntries(new FormData(form)) : {};
  }
  // What the address asks for, also what the form cannot hold: the kernel goes on saying that it is no choice.
  function wanted() {
    const made = choices();
    return Object.keys(made).length ? { ...made, ...Object.fromEntries(new URLSearchParams(location.search)) } : made;
  }
  const isNone = ([name, value]) => {
    const one = content.querySelector("form[data-controls]").elements[name];
    return value === "" || value === one.dataset.none;
  };
  function speak(slider) {
    const words = slider.parentElement.querySelector("output");
    const sign = slider.value > 0 ? "+" : "";
    words.textContent = slider.value === slider.dataset.none ? words.dataset.none : `${sign}${slider.value} %`;
  }

  let choiceTimer = 0;
  function chosen(event) {
    if (!event.target.form || !event.target.form.matches("form[data-controls]")) return;
    if (event.target.type === "range") speak(event.target);
    clearTimeout(choiceTimer);
    choiceTimer = setTimeout(() => {
      const chosenNow = choices();
      const query = new URLSearchParams(Object.entries(chosenNow).filter((one) => !isNone(one)));
      history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
      if (socket && socket.readyState === WebSocket.OPEN && comm) send("comm_msg", { data: { choices: chosenNow } });
    }, CHOICE_MS);
  }
  content?.addEventListener("change", chosen);
  content?.addEventListener("input", chosen);
  content?.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.target.matches("form[data-run]")) ask(event.target);
  });
  content?.addEventListener("click", (event) => {
    const button = event.target.closest("[data-clear]");
    if (!button) return;
    for (const one of button.form.elements) {
      if (one.tagName === "SELECT") one.selectedIndex = 0;
      if (one.tagName === "INPUT") one.value = one.dataset.none || "";
      if (one.type === "range") speak(one);
    }
    chosen({ target: button });
  });

  // An analyst asks for a run with other parameters; it is the API that checks and starts it.
  const TASK_MS = 1_000;
  const xsrf = () => (document.cookie.match(/(?:^|; )_xsrf=([^;]*)/) || [])[1] || "";
  const typed = {
    number: (text) => Number(text),
    boolean: (text) => text === "true",
    list: (text) => text.split(",").map((one) => one.trim()).filter(Boolean),
    text: (text) => text,
  };
  async function server(path, options) {
    const answer = await fetch(`${base}runs/${path}`, { cache: "no-store", ...options });
    try {
      return await answer.json();
    } catch {
      return { success: false, message: `This was refused (${answer.status}). Reload the page and log in again.` };
    }
  }
  async function ask(form) {
    const status = form.querySelector("[role=status]");
    const button = form.querySelector("button[type=submit]");
    const parameters = {};
    for (const one of form.elements) {
      if (!one.dataset.sends || one.value === "" || one.value === one.dataset.default) continue;
      parameters[one.name] = typed[one.dataset.sends](one.value);
    }
    button.disabled = true;
    status.textContent = "Asking for the run";
    try {
      const said = await server("ask", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-XSRFToken": xsrf() },
        body: JSON.stringify({
          analysis_type: form.dataset.run, parameters, force_refresh: form.elements.force_refresh.checked,
        }),
      });
      status.textContent = [said.message, said.error && said.error.hint].filter(Boolean).join(" ");
      if (said.success && said.data.task_id) await follow(said.data.task_id, form, status);
    } catch {
      status.textContent = "The server does not answer. Try again in a moment.";
    } finally {
      form.querySelector("progress").hidden = true;
      button.disabled = false;
    }
  }
  async function follow(task, form, status) {
    const bar = form.querySelector("progress");
    bar.hidden = false;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, TASK_MS));
      if (isLeaving) return;
      const said = await server(`status/${task}`);
      if (!said.success) {
        status.textContent = said.message;
        return;
      }
      const { state, progress, analyses, error_code: code } = said.data;
      if (state === "processing") [bar.max, bar.value] = [progress.of, progress.done];
      const words = { pending: "Waiting to start", processing: `Running: ${progress.done} of ${progress.of} done` };
      const run = analyses.map((one) => one.run).find(Boolean);
      const of = run ? ` Run ${run.run_id}.` : "";
      const end = state === "failed" ? `It failed (${code}).${of}` : `Done.${of} Its result is among the runs.`;
      status.textContent = words[state] || end;
      if (!words[state]) return;
    }
  }

  // What the viewer did with the old part stays: opened details, scrolled pictures, the focus.
  function replace(old, part) {
    for (const one of old.querySelectorAll("details[open][data-keep]")) {
      const same = part.querySelector(`details[data-keep="${one.dataset.keep}"]`);
      if (same) same.open = true;
    }
    const stops = "a[href], summary, input, select, button, [tabindex]";
    const focused = [...old.querySelectorAll(stops)].indexOf(document.activeElement);
    const scrolled = [...old.querySelectorAll("[tabindex]")].map((one) => [one.scrollLeft, one.scrollTop]);
    old.replaceWith(part);
    part.querySelectorAll("[tabindex]").forEach((one, place) => {
      if (scrolled[place]) [one.scrollLeft, one.scrollTop] = scrolled[place];
    });
    const target = focused >= 0 && part.querySelectorAll(stops)[focused];
    if (target) target.focus({ preventScroll: true });
  }

  function lost() {
    clearTimeout(pingTimer);
    clearTimeout(answerTimer);
    if (isLeaving) return;
    lostAt = lostAt || new Date();
    tell("lost", `Connection lost at ${clock(lostAt)}: what you see is from before. Trying again`);
    setTimeout(recover, RETRY_MS);
  }

  // Never led elsewhere while asking: whoever stands before us may answer with a login page of another address, which
  // the page's own policy forbids to ask; that is told apart from a server that is away.
  const asked = (path) => fetch(`${base}${path}`, { cache: "no-store", redirect: "manual" });

  async function recover() {
    try {
      const answer = await asked(`api/kernels/${kernel}`);
      if (answer.ok) return connect();
      const isLed = answer.type === "opaqueredirect";
      if (isLed || [401, 403].includes(answer.status)) return reload("Nobody is logged in any more; the login follows");
      if (answer.status === 404) return reload("The server was started again; this page opens anew");
    } catch {
      // the server is away
    }
    setTimeout(recover, RETRY_MS);
  }

  function reload(why) {
    if (connection) tell("lost", why);
    const wait = Number(sessionStorage.getItem("medisync-reloaded") || 0) + RELOAD_PAUSE_MS - Date.now();
    setTimeout(renew, Math.max(0, wait));
  }

  // The whole page anew, in the place of this one. The browser's own reload would end, once for all, in its page of
  // errors if the server went away just then; so that is left to the way to the login.
  async function renew() {
    sessionStorage.setItem("medisync-reloaded", String(Date.now()));
    try {
      const answer = await fetch(location.href, { cache: "no-store", redirect: "manual" });
      if (answer.type === "opaqueredirect" || [401, 403].includes(answer.status)) return location.reload();
      const page = await answer.text();
      if (!answer.ok || !page.includes(COMPLETE)) throw new Error("not complete");
      isLeaving = true;
      removeEventListener("pagehide", leave);
      document.open();
      document.write(page);
      document.close();
    } catch {
      setTimeout(renew, RETRY_MS);
    }
  }

  function leave() {
    isLeaving = true;
    const form = new FormData();
    form.append("_xsrf", xsrf());
    navigator.sendBeacon(`${base}voila/api/shutdown/${kernel}`, form);
    if (socket) socket.close();
  }

  if (kernel) addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload(); // back from the browser's cache: the kernel is gone
  });

  if (kernel) connect();
  if (!document.querySelector("footer")) reload("The server went away while it sent this page; it is asked again");
})();
