// The task of a step that reaches nothing but its store, and what fits into it.
#include "server/engine/step_files.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class HomeDouble : public BlobHome {
 public:
  absl::Status Put(const std::string&, const std::string&, int64_t, absl::string_view) override { return None(); }
  absl::Status Get(const std::string&, const std::string&, absl::string_view) override { return None(); }
  absl::StatusOr<int64_t> SizeOf(const std::string&) override { return None(); }
  absl::Status Remove(const std::string&) override { return None(); }
  bool has_addresses() const override { return true; }
  absl::StatusOr<s3::Presigned> PresignPut(const std::string& name, int64_t, absl::string_view, int64_t) override {
    return PresignAnyPut(name, 0);
  }
  absl::StatusOr<s3::Presigned> PresignAnyPut(const std::string& name, int64_t) override {
    s3::Presigned out;
    out.url = "http://store/" + name;
    return out;
  }

 private:
  static absl::Status None() { return absl::UnimplementedError("double"); }
};

class StepFilesTest : public testing::Test {
 protected:
  StepFilesTest() : dir_(testing::TempDir() + "step-files-" + Hex(RandomBytes(6))) {
    fs::create_directories(dir_ + "/data");
    stores_.Put("team", std::make_shared<HomeDouble>());
    blobs_ = *BlobStore::Open(dir_ + "/data", 10, [](absl::string_view) { return std::nullopt; });
    task_.json = R"({"root":"/r","env":[],"inputs":[]})";
    task_.outputs = {"o"};
    task_.artifact_store = "team";
  }
  ~StepFilesTest() override { fs::remove_all(dir_); }

  std::string Write(const std::string& name, size_t size) {
    const std::string path = absl::StrCat(dir_, "/", name);
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << std::string(size, 'x');
    return path;
  }
  void AddInput(const std::string& name, TaskFile::Kind kind, const std::string& path) {
    task_.inputs[name] = TaskFile{kind, path, "", {}};
    json parsed = json::parse(task_.json);
    parsed["inputs"].push_back({{"name", name}});
    task_.json = parsed.dump();
  }
  // The task in the file, or why there is none.
  absl::StatusOr<json> Hand(int64_t handed_bytes, int64_t folder_entries = 10) {
    Deliveries deliveries(dir_ + "/data", {1000, 5, 2});
    RETURN_IF_ERROR(deliveries.PutTask("k", WriteTask(task_)));
    StepFiles files(
        &sources_, &deliveries, blobs_.get(), {1000, 600, 8, handed_bytes, folder_entries},
        [](const std::string&) { return std::vector<SecretValue>(); }, &stores_);
    ASSIGN_OR_RETURN(const std::string path, files.Hand("k"));
    std::ifstream in(path);
    return json::parse(in);
  }

  const std::string dir_;
  FileDigests digests_;
  const Sources sources_{dir_ + "/data", &digests_};
  ArtifactStores stores_{nullptr, nullptr};
  std::unique_ptr<BlobStore> blobs_;
  AttemptTask task_;
};

TEST_F(StepFilesTest, WhatHasNoAddressGoesAsItIsUpToALimit) {
  AddInput("small", TaskFile::Kind::kFile, Write("small", 8));
  AddInput("large", TaskFile::Kind::kFile, Write("large", 92));  // more than handed_inline_bytes
  const auto handed = Hand(100);
  ASSERT_TRUE(handed.ok()) << handed.status();
  EXPECT_EQ((*handed)["inputs"][1]["bytes"]["base64"], absl::Base64Escape(std::string(92, 'x')));
  EXPECT_EQ((*handed)["away"]["most_bytes"], int64_t{5} << 30);
  const absl::Status refused = Hand(99).status();
  EXPECT_EQ(ReasonOf(refused), "STORE_UNREACHABLE");
  EXPECT_NE(refused.message().find("input `large`"), std::string::npos) << refused;
  EXPECT_NE(refused.message().find("limit handed_bytes"), std::string::npos) << refused;
}

TEST_F(StepFilesTest, ListingsCountAndHaveALimitOfEntries) {
  for (const char* name : {"in/a", "in/b", "src/c"}) Write(name, 10);
  AddInput("d", TaskFile::Kind::kFolder, dir_ + "/in");
  const auto folder = Hand(1000, 2);
  ASSERT_TRUE(folder.ok()) << folder.status();
  std::string listing;
  ASSERT_TRUE(absl::Base64Unescape((*folder)["inputs"][0]["bytes"]["listing"].get<std::string>(), &listing));
  const int64_t all = static_cast<int64_t>(listing.size()) + 20;
  EXPECT_TRUE(Hand(all).ok());
  EXPECT_EQ(ReasonOf(Hand(all - 1).status()), "STORE_UNREACHABLE");
  EXPECT_EQ(ReasonOf(Hand(static_cast<int64_t>(listing.size()) - 1).status()), "STORE_UNREACHABLE");
  const absl::Status refused = Hand(1000, 1).status();
  EXPECT_FALSE(refused.ok());
  EXPECT_NE(refused.message().find("input `d`"), std::string::npos) << refused;
  // The source's listing, too.
  task_.source = TaskFile{TaskFile::Kind::kSource, dir_ + "/src", "", {}};
  json parsed = json::parse(task_.json);
  parsed["source"] = json::object();
  task_.json = parsed.dump();
  const auto with = Hand(1000);
  ASSERT_TRUE(with.ok()) << with.status();
  ASSERT_TRUE(absl::Base64Unescape((*with)["source"]["bytes"]["listing"].get<std::string>(), &listing));
  const int64_t more = all + static_cast<int64_t>(listing.size()) + 10;
  EXPECT_TRUE(Hand(more).ok());
  EXPECT_EQ(ReasonOf(Hand(more - 1).status()), "STORE_UNREACHABLE");
  EXPECT_EQ(ReasonOf(Hand(all + 1).status()), "STORE_UNREACHABLE");
}

TEST_F(StepFilesTest, WhatAStoreTakesInNoSingleRequestComesHere) {
  Deliveries deliveries(dir_ + "/data", {1000, 5, 2});
  ASSERT_TRUE(deliveries.PutTask("k", WriteTask(task_)).ok());
  StepFiles files(
      &sources_, &deliveries, blobs_.get(), {1000, 600, 8, 100, 10},
      [](const std::string&) { return std::vector<SecretValue>(); }, &stores_);
  const std::string hex = Hex(Sha256Of("x"));
  EXPECT_TRUE(files.UploadAddress("k", hex, StepFiles::kMaxSinglePut).has_value());
  EXPECT_FALSE(files.UploadAddress("k", hex, StepFiles::kMaxSinglePut + 1).has_value());
}

}  // namespace
}  // namespace orch
