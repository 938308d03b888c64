#include "client/cli/table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"

namespace orch::cli {

Table::Table(std::vector<std::string> headers) : headers_(std::move(headers)) {}

void Table::Add(std::vector<Cell> row) {
  CHECK(row.size() == headers_.size());
  for (Cell& cell : row) cell.text = Clean(cell.text);
  rows_.push_back(std::move(row));
}

std::string Table::Render(const Style& style) const {
  std::vector<int> widths(headers_.size());
  std::vector<size_t> columns;
  for (size_t c = 0; c < headers_.size(); ++c) {
    for (const auto& row : rows_) widths[c] = std::max(widths[c], Width(row[c].text));
    if (widths[c] == 0 && !rows_.empty()) continue;
    widths[c] = std::max(widths[c], Width(headers_[c]));
    columns.push_back(c);
  }
  std::string out;
  const auto line = [&](const auto& cell_of) {
    std::string text;
    int owed = 0;
    for (size_t c : columns) {
      const Cell cell = cell_of(c);
      if (cell.text.empty()) {
        owed += widths[c] + 2;
        continue;
      }
      text.append(static_cast<size_t>(owed), ' ');
      text += style.Paint(cell.text, cell.color);
      owed = widths[c] - Width(cell.text) + 2;
    }
    absl::StrAppend(&out, text, "\n");
  };
  line([this](size_t c) { return Cell(headers_[c], Color::kBold); });
  for (const auto& row : rows_) line([&row](size_t c) { return row[c]; });
  return out;
}

std::string RenderFacts(const std::vector<std::pair<std::string, Cell>>& facts, const Style& style) {
  int width = 0;
  for (const auto& [key, cell] : facts) {
    if (!cell.text.empty()) width = std::max(width, Width(key));
  }
  std::string out;
  for (const auto& [key, cell] : facts) {
    if (cell.text.empty()) continue;
    absl::StrAppend(&out, style.Paint(absl::StrCat(key, ":"), Color::kDim),
                    std::string(static_cast<size_t>(width - Width(key)) + 2, ' '),
                    style.Paint(Clean(cell.text), cell.color), "\n");
  }
  return out;
}

}  // namespace orch::cli
