"""Shows runs in one HTML file: python -m jaxgan.report RUN [RUN ...] --out=FILE.html."""

from jaxgan.commands import app, report

if __name__ == "__main__":
    app.run(report.main)
