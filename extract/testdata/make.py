"""Makes the PDFs beside it: pip install reportlab && python make.py"""
from reportlab.lib.pagesizes import A5
from reportlab.lib import pdfencrypt
from reportlab.pdfgen.canvas import Canvas

PAGES = [["Inspection of pressure vessels", "", "Every vessel is inspected once in two years. The inspector", "writes the date and the wall thickness into the log.", "",
          "A vessel thinner than four millimetres is taken out of service."],
         ["Repair", "", "Welds are made by certified welders only. After a weld the", "vessel is tested at one and a half times its work-", "ing pressure."]]

def make(name, pages, **options):
    c = Canvas(name, pagesize=A5, invariant=True, **options)
    c.setTitle("Vessel handbook")
    for lines in pages:
        text = c.beginText(40, 500)
        for line in lines:
            text.textLine(line)
        c.drawText(text)
        c.showPage()
    c.save()

make("handbook.pdf", PAGES)
make("encrypted.pdf", PAGES, encrypt=pdfencrypt.StandardEncryption("secret", canPrint=0))
c = Canvas("drawing.pdf", pagesize=A5, invariant=True)
c.circle(200, 300, 80, fill=1)
c.save()
