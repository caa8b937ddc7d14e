#!/bin/sh
# Writes the files in files/ from source.md, slides.md and columns.tex, by pandoc 2.17, LibreOffice 7.4, LaTeX, Chromium
# and Jupyter (Debian 12: pandoc, libreoffice-writer, libreoffice-calc, libreoffice-impress, texlive-latex-recommended,
# lmodern, chromium, jupyter-nbconvert, python3-ipykernel), and a page that is a picture for extract's tests. The tests
# read the files as they are kept here.
set -eu
cd "$(dirname "$0")/files"
for f in docx odt epub rtf rst html ipynb; do pandoc -s source.md -o "pandoc.$f" -t "$f"; done
pandoc -s source.md -o pandoc.adoc -t asciidoc
pandoc slides.md -o pandoc.pptx
office() { soffice --headless --norestore "$@" --outdir made >/dev/null; }
office --convert-to docx:"MS Word 2007 XML" pandoc.odt && mv made/pandoc.docx office.docx
office --convert-to odt pandoc.docx && mv made/pandoc.odt office.odt
for f in rtf pdf html; do office --convert-to $f pandoc.odt && mv "made/pandoc.$f" "office.$f"; done
for f in xlsx ods; do office --infilter=CSV:44,34,76,1 --convert-to $f table.csv && mv "made/table.$f" "office.$f"; done
office --convert-to odp pandoc.pptx && mv made/pandoc.odp office.odp
office --convert-to pptx office.odp && mv made/office.pptx office.pptx
rmdir made
pdflatex -interaction=batchmode columns.tex && mv columns.pdf latex.pdf && rm -f columns.aux columns.log
chromium() {
  command chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files \
    --no-pdf-header-footer "$@"
}
chromium --print-to-pdf=chromium.pdf pandoc.html
tmp=$(mktemp -d)
cat >"$tmp/station.ipynb" <<'END'
{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
 {"cell_type": "markdown", "id": "a", "metadata": {},
  "source": ["# Handbook of the Pump Station\n\nThe station draws water from the lake.\n\n",
   "## Limits\n\n- The oil stands between the two marks."]},
 {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": null, "outputs": [],
  "source": "flow = {'North': 120, 'South': 95}\nprint('The sum is', sum(flow.values()))"},
 {"cell_type": "code", "id": "c", "metadata": {}, "execution_count": null, "outputs": [], "source": "flow"}]}
END
jupyter-nbconvert --to notebook --execute "$tmp/station.ipynb" --output jupyter.ipynb --output-dir .
cat >"$tmp/page.html" <<'END'
<body style="font-family: DejaVu Serif, serif; font-size: 22px; width: 760px; margin: 40px">
<h1>Notice of the pump station</h1>
<p>The station draws water from the lake. Before anybody starts it, the valve at the inlet must be open; a closed valve
ruins the impeller within minutes.</p>
<p>The keys hang behind the door that is painted green.</p>
END
chromium --window-size=850,600 --screenshot="$tmp/page.png" "$tmp/page.html"
echo '<body style="margin:0"><img src="page.png" style="width:100%">' >"$tmp/scan.html"
chromium --print-to-pdf=../../../extract/testdata/scanned.pdf "$tmp/scan.html"
rm -rf "$tmp"
