import pathlib
import sys

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from generate_proto import generate


class BuildWithDescriptors(build_py):
    def run(self):
        generate()
        super().run()


class ArchiveWithDescriptors(sdist):
    def run(self):
        generate()
        super().run()


setup(cmdclass={"build_py": BuildWithDescriptors, "sdist": ArchiveWithDescriptors})
