// Says what to wait for while there is nothing to show.

import { element } from "./dom.js";

// `runs` are the directories of a monitor that hold no recorded step yet.
export function waitingElements(runs) {
  const code = (text) => element("code", {}, text);
  const started = runs.map((run) => element("li", {}, run));
  return [
    element("h2", {}, runs.length ? "Waiting for the first recorded step" : "No data yet"),
    started.length ? element("ul", {}, ...started) : null,
    element(
      "p",
      {},
      "The monitor records the first training step, step 0, as soon as it has been compiled and " +
        "run: for a large model, this takes minutes. TensorBoard looks for new files every few " +
        "seconds, and this page shows them by itself.",
    ),
    element(
      "p",
      {},
      "If nothing appears, check that ",
      code('model.fit(..., callbacks=[keras_winit.ActivationMonitor(log_dir="logs")])'),
      " is running, and that TensorBoard reads the same directory: ",
      code("tensorboard --logdir logs"),
      ".",
    ),
  ].filter(Boolean);
}
