#!/bin/sh
# Writes the files in files/ from source.md and slides.md, by pandoc 2.17 and LibreOffice 7.4 (Debian 12: pandoc,
# libreoffice-writer, libreoffice-calc, libreoffice-impress). The tests read the files as they are kept here.
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
