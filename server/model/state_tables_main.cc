// Prints the tables of states as Markdown, for docs/architecture.md.
#include <cstdio>

#include "server/model/transitions.h"

int main() {
  std::fputs(orch::TransitionsAsMarkdown().c_str(), stdout);
  return 0;
}
