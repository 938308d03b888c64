"""Writes one HTML file, pictures inside: how the models compare, and what the winner misreads."""
import base64
import html
import io
import json
import os
import sys

try:
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot
except ImportError as missing:
    sys.exit(f"python3-matplotlib is missing ({missing}): apt-get install python3-matplotlib")

MOST_MISREAD = 12
TITLES = {
    "knn": "Nearest neighbours",
    "logistic": "Logistic regression",
    "svm": "Support vector machine",
    "tree": "Decision tree",
    "forest": "Random forest",
}

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Handwritten digits: {title} reads {accuracy}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2430; --soft: #536070; --page: #f5f6f8; --card: #fff; --line: #dde1e7;
  --mark: #1f5fa8; --tint: #e9f1fb; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8ecf2; --soft: #a5b0bf; --page: #12161c; --card: #1b212a;
  --line: #323b47; --mark: #7db4f5; --tint: #1f2e42; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "DejaVu Sans", sans-serif; }}
main {{ max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }}
h1 {{ font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; text-wrap: balance; }}
h2 {{ font-size: 1.2rem; margin: 0 0 .25rem; }}
p {{ margin: 0 0 1rem; max-width: 44rem; }}
.soft, figcaption, caption {{ color: var(--soft); }}
section {{ background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1.5rem;
  margin-top: 1.5rem; }}
.facts {{ display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; margin: 1.25rem 0 0; padding: 0; }}
.facts dt {{ color: var(--soft); font-size: .875rem; }}
.facts dd {{ margin: 0; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; padding-bottom: .75rem; }}
th, td {{ padding: .55rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }}
th:first-child {{ text-align: left; }}
thead th {{ font-size: .875rem; color: var(--soft); font-weight: 600; }}
tbody th {{ font-weight: 500; }}
tr.best {{ background: var(--tint); }}
tr.best th {{ font-weight: 650; }}
.badge {{ display: inline-block; margin-left: .5rem; padding: 0 .5rem; border: 1px solid var(--mark);
  border-radius: 1rem; color: var(--mark); font-size: .8rem; }}
.bar {{ display: inline-block; vertical-align: middle; margin-right: .75rem; width: 6rem; height: .6rem; border-radius: .3rem; background: var(--line); overflow: hidden; }}
.bar i {{ display: block; height: 100%; background: var(--mark); }}
img.plot {{ display: block; width: 100%; max-width: 36rem; height: auto; margin: 1rem auto 0; border-radius: .5rem;
  background: #fff; }}
.misread {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: 1rem; margin-top: 1rem; }}
figure {{ margin: 0; }}
.misread img {{ display: block; width: 100%; height: auto; margin-bottom: .35rem; image-rendering: pixelated; border: 1px solid var(--line);
  border-radius: .5rem; background: #fff; }}
figcaption {{ font-size: .875rem; }}
figcaption b {{ color: var(--ink); }}
summary {{ cursor: pointer; margin-top: 1rem; color: var(--mark); }}
details td, details th, details th:first-child {{ padding: .2rem .5rem; text-align: right; }}
@media (max-width: 40rem) {{ section {{ padding: 1.1rem; }} .bar {{ display: none; }} th, td {{ padding: .5rem .35rem; }}
  table th {{ white-space: normal; }} }}
</style>
</head>
<body>
<main>
<h1>{title} reads {accuracy} of handwritten digits</h1>
<p class="soft">Five models learned from {train_rows} images of 8&nbsp;×&nbsp;8 pixels. Cross-validation on those
chose the winner; accuracy and mistakes are from {test_rows} other images that no model had seen.</p>
<dl class="facts">
<div><dt>Winner</dt><dd>{title}</dd></div>
<div><dt>Accuracy</dt><dd>{accuracy}</dd></div>
<div><dt>Misread</dt><dd>{errors} of {test_rows}</dd></div>
<div><dt>Images</dt><dd>{rows}</dd></div>
</dl>
<section aria-labelledby="models">
<h2 id="models">The models</h2>
<div class="scroll" tabindex="0" role="region" aria-labelledby="models">
<table>
<caption>Best in cross-validation first. The bars begin at {bar_from}.</caption>
<thead><tr><th scope="col">Model</th><th scope="col">Cross-validation</th><th scope="col">Accuracy</th>
<th scope="col">F1</th><th scope="col">Misread</th>
<th scope="col">Size</th></tr></thead>
<tbody>
{model_rows}
</tbody>
</table>
</div>
</section>
<section aria-labelledby="confusion">
<h2 id="confusion">Which digits it confuses</h2>
<p class="soft">{confusion_text} On the blue diagonal it was right.</p>
<img class="plot" src="{plot}" width="1200" height="1120" alt="Confusion matrix of {title}. {confusion_text}">
<details><summary>The same as a table</summary>
<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix">
<table><caption>Rows: the digit written. Columns: the digit read.</caption>
<thead><tr><th scope="col">Written</th>{digit_heads}</tr></thead>
<tbody>
{matrix_rows}
</tbody></table>
</div>
</details>
</section>
<section aria-labelledby="misread">
<h2 id="misread">What it misreads</h2>
<p class="soft">{misread_text}</p>
<div class="misread">
{figures}
</div>
</section>
</main>
</body>
</html>
"""


def load(name):
    with open(os.environ[f"ORCH_INPUT_{name}"], encoding="utf-8") as file:
        return json.load(file)


def data_url(png):
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def digit_picture(pixels):
    out = io.BytesIO()
    pyplot.imsave(out, pixels.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16, format="png", metadata={"Software": None})
    return data_url(out.getvalue())


def confusion_plot(matrix):
    """Right answers only in outline, so that the colour shows the mistakes."""
    mistakes = matrix - np.diag(np.diag(matrix))
    figure, axes = pyplot.subplots(figsize=(6, 5.6), dpi=200)
    most = max(1, int(mistakes.max()))
    axes.imshow(np.ma.masked_equal(mistakes, 0), cmap="OrRd", vmin=-most, vmax=most * 1.2)
    for (written, read), count in np.ndenumerate(matrix):
        if written == read:
            axes.add_patch(pyplot.Rectangle((read - 0.5, written - 0.5), 1, 1, facecolor="#e9f1fb", edgecolor="none"))
        if count:
            right = written == read
            dark = not right and count > most * 0.7
            axes.text(read, written, str(count), ha="center", va="center", fontsize=11,
                      color="#1f5fa8" if right else "white" if dark else "#5a1100",
                      fontweight="normal" if right else "bold")
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set_xticks(np.arange(-0.5, 10), minor=True)
    axes.set_yticks(np.arange(-0.5, 10), minor=True)
    axes.grid(which="minor", color="#dde1e7", linewidth=0.8)
    axes.tick_params(which="both", length=0, labelsize=11, colors="#1c2430")
    for spine in axes.spines.values():
        spine.set_color("#dde1e7")
    axes.set_xlabel("digit read", fontsize=11, color="#536070")
    axes.set_ylabel("digit written", fontsize=11, color="#536070")
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return data_url(out.getvalue())


def size_text(count):
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def model_row(score, winner, bar_from):
    title = html.escape(TITLES.get(score["model"], score["model"]))
    best = score["model"] == winner
    share = 100 * (score["accuracy"] - bar_from) / (1 - bar_from)
    return (
        f'<tr{" class=best" if best else ""}><th scope="row">{title}'
        f'{"<span class=badge>winner</span>" if best else ""}</th>'
        f'<td>{score["cross_validation"]:.1%}</td>'
        f'<td><span class="bar" aria-hidden="true"><i style="width:{share:.1f}%"></i></span>{score["accuracy"]:.1%}</td>'
        f'<td>{score["f1"]:.3f}</td><td>{score["errors"]}</td><td>{size_text(score["model_bytes"])}</td></tr>'
    )


def confusion_text(matrix):
    pairs = sorted(
        ((int(count), written, read) for (written, read), count in np.ndenumerate(matrix) if count and written != read),
        key=lambda pair: (-pair[0], pair[1:]),
    )
    if not pairs:
        return "Every image was read rightly."
    most = pairs[0][0]
    told = [f"{written} as {read}" + (f" ({count} times)" if count > 1 else "") for count, written, read in pairs[:6]]
    listed = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
    rest = f", and {len(pairs) - len(told)} other pairs" if len(pairs) > len(told) else ""
    return f"It read {listed}{rest}{', once each' if most == 1 and len(told) > 1 else ''}."


def main():
    facts, scores, winner = load("FACTS"), load("SCORES"), load("WINNER")
    folder = os.environ["ORCH_INPUT_PREDICTIONS"]
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        files = {entry["item"]["model"]: os.path.join(folder, entry["path"]) for entry in json.load(file)}
    table = np.loadtxt(os.environ["ORCH_INPUT_TABLE"], delimiter=",", skiprows=1)
    labels, images = table[:, 0].astype(int), table[:, 1:]
    found = np.loadtxt(files[winner["model"]], skiprows=1).astype(int)

    matrix = np.zeros((10, 10), dtype=int)
    np.add.at(matrix, (labels, found), 1)
    wrong = np.flatnonzero(labels != found)
    shown = wrong[:MOST_MISREAD]
    scores.sort(key=lambda score: (-score["cross_validation"], score["model"]))
    bar_from = min(0.9, np.floor(min(score["accuracy"] for score in scores) * 10) / 10 - 0.1)
    text = confusion_text(matrix)
    page = PAGE.format(
        title=html.escape(TITLES.get(winner["model"], winner["model"])),
        accuracy=f"{winner['accuracy']:.1%}",
        errors=len(wrong),
        rows=facts["rows"],
        test_rows=len(labels),
        train_rows=facts["rows"] - len(labels),
        bar_from=f"{bar_from:.0%}",
        model_rows="\n".join(model_row(score, winner["model"], bar_from) for score in scores),
        confusion_text=text,
        plot=confusion_plot(matrix),
        digit_heads="".join(f'<th scope="col">{digit}</th>' for digit in range(10)),
        matrix_rows="\n".join(
            f'<tr><th scope="row">{digit}</th>' + "".join(f"<td>{count}</td>" for count in row) + "</tr>"
            for digit, row in enumerate(matrix)
        ),
        misread_text="Nothing: every image was read rightly." if not len(wrong) else
        f"{'All' if len(shown) == len(wrong) else f'{len(shown)} of'} {len(wrong)} misread images, as the model sees them.",
        figures="\n".join(
            f'<figure><img src="{digit_picture(images[index])}" width="8" height="8" '
            f'alt="An image of a handwritten {labels[index]}">'
            f"<figcaption>a <b>{labels[index]}</b>, read as <b>{found[index]}</b></figcaption></figure>"
            for index in shown
        ),
    )
    with open(os.environ["ORCH_OUTPUT_REPORT"], "w", encoding="utf-8") as out:
        out.write(page)
    print(f"a report of {len(page)} characters, {len(shown)} misread digits shown")


if __name__ == "__main__":
    main()
