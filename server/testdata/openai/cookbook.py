"""OpenAI's cookbook, "Doing RAG on PDFs using File Search in the Responses API", as far as it calls no model:
https://cookbook.openai.com/examples/file_search_responses. Only its PDFs are replaced, by the files of a folder."""
import concurrent.futures
import os
import sys

from openai import OpenAI

client = OpenAI(max_retries=0)
dir_pdfs = sys.argv[1]
pdf_files = sorted(os.path.join(dir_pdfs, f) for f in os.listdir(dir_pdfs))


def upload_single_pdf(file_path: str, vector_store_id: str):
    file_name = os.path.basename(file_path)
    try:
        file_response = client.files.create(file=open(file_path, "rb"), purpose="assistants")
        client.vector_stores.files.create(vector_store_id=vector_store_id, file_id=file_response.id)
        return {"file": file_name, "status": "success"}
    except Exception as e:
        return {"file": file_name, "status": "failed", "error": str(e)}


def upload_pdf_files_to_vector_store(vector_store_id: str):
    stats = {"total_files": len(pdf_files), "successful_uploads": 0, "failed_uploads": 0, "errors": []}
    with concurrent.futures.ThreadPoolExecutor(max_workers=10) as executor:
        futures = {executor.submit(upload_single_pdf, path, vector_store_id): path for path in pdf_files}
        for future in concurrent.futures.as_completed(futures):
            result = future.result()
            if result["status"] == "success":
                stats["successful_uploads"] += 1
            else:
                stats["failed_uploads"] += 1
                stats["errors"].append(result)
    return stats


def create_vector_store(store_name: str) -> dict:
    vector_store = client.vector_stores.create(name=store_name)
    return {"id": vector_store.id, "name": vector_store.name, "created_at": vector_store.created_at,
            "file_count": vector_store.file_counts.completed}


store = create_vector_store("openai_blog_store")
stats = upload_pdf_files_to_vector_store(store["id"])
assert stats["successful_uploads"] == len(pdf_files), stats
while client.vector_stores.retrieve(store["id"]).status != "completed":
    pass
search_results = client.vector_stores.search(vector_store_id=store["id"], query="How is a pump returned?")
for result in search_results.data:
    assert result.content[0].text and result.score >= 0
assert search_results.data[0].filename == "pumps.md", search_results
print("ok")
