// Connects the tab to TensorBoard, in whose page it is a frame.

export const currentTheme = () => (document.body.classList.contains("dark") ? "dark" : "light");

// TensorBoard marks dark mode in its own page only. Copies the mark to the frame, and calls
// `onChange` after each change of the mark.
export function followTheme(onChange) {
  const host = parent.document.body;
  const follow = () => {
    document.body.classList.toggle("dark", host.classList.contains("dark-mode"));
    onChange();
  };
  new MutationObserver(follow).observe(host, { attributes: true, attributeFilter: ["class"] });
  follow();
}

// Calls `onReload` when the user clicks on TensorBoard's reload button. The messages follow the
// protocol of TensorBoard's plugin library, which expects an answer to each.
export function followReloads(onReload) {
  const { port1, port2 } = new MessageChannel();
  parent.postMessage("experimental.bootstrap", location.origin, [port2]);
  port1.onmessage = (event) => {
    const { type, id, isReply } = JSON.parse(event.data);
    if (isReply) return;
    if (type === "experimental.DataReloaded") onReload();
    port1.postMessage(JSON.stringify({ type, id, payload: null, error: null, isReply: true }));
  };
}
