// Aligned columns.
#pragma once

#include <string>
#include <vector>

#include "client/cli/style.h"

namespace orch::cli {

struct Cell {
  Cell(std::string t) : text(std::move(t)) {}  // NOLINT(google-explicit-constructor): rows are written as lists
  Cell(const char* t) : text(t) {}             // NOLINT(google-explicit-constructor)
  Cell(std::string t, Color c) : text(std::move(t)), color(c) {}
  std::string text;
  Color color = Color::kNone;
};

class Table {
 public:
  explicit Table(std::vector<std::string> headers);
  // As many cells as headers.
  void Add(std::vector<Cell> row);
  bool empty() const { return rows_.empty(); }
  // Columns are as wide as their widest cell; the last one is not padded. Empty cells show `-`, so that tools that
  // split at blanks find every column.
  std::string Render(const Style& style) const;

 private:
  std::vector<std::string> headers_;
  std::vector<std::vector<Cell>> rows_;
};

// `Key:  value` lines; empty values are left out.
std::string RenderFacts(const std::vector<std::pair<std::string, Cell>>& facts, const Style& style);

}  // namespace orch::cli
