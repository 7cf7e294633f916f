"""HubSpot's own Python client against the fake of HubSpot. Usage: against_the_fake.py BASE_URL TOKEN LIMITED_BASE_URL

Prints one line for each thing that works; the first that does not ends it."""

import sys

import hubspot
from hubspot.crm.associations import v4 as associations
from hubspot.crm.companies import SimplePublicObjectInputForCreate as NewCompany
from hubspot.crm.contacts import (
    ApiException,
    BatchInputSimplePublicObjectBatchInput,
    BatchInputSimplePublicObjectBatchInputForCreate,
    BatchInputSimplePublicObjectBatchInputUpsert,
    BatchInputSimplePublicObjectId,
    BatchReadInputSimplePublicObjectId,
    Filter,
    FilterGroup,
    PublicMergeInput,
    PublicObjectSearchRequest,
    SimplePublicObjectId,
    SimplePublicObjectInput,
    SimplePublicObjectInputForCreate,
)
from hubspot.crm.properties import PropertyCreate
from hubspot.utils.objects import fetch_all
from urllib3.util.retry import Retry

base, token, limited = sys.argv[1:4]


def client(access_token=token, host=base, retry=None):
    return hubspot.Client.create(access_token=access_token, host=host, retry=retry)


crm = client().crm
contacts = crm.contacts


def new(email, **properties):
    return SimplePublicObjectInputForCreate(properties={"email": email, **properties}, associations=[])


made = contacts.basic_api.create(new("sdk@python.example", firstname="Sam", phone="1"))
assert made.id.isdigit() and made.archived is False and made.properties["firstname"] == "Sam", made
assert made.created_at.tzinfo is not None and made.updated_at >= made.created_at, made
print("create")

read = contacts.basic_api.get_by_id(made.id, properties=["firstname", "phone"], properties_with_history=["phone"])
assert (read.properties["firstname"], read.properties["phone"]) == ("Sam", "1"), read
assert [entry.value for entry in read.properties_with_history["phone"]] == ["1"], read.properties_with_history
by_email = contacts.basic_api.get_by_id("sdk@python.example", id_property="email")
assert by_email.id == made.id, by_email
print("get by id, by email and with history")

updated = contacts.basic_api.update(made.id, SimplePublicObjectInput(properties={"phone": "2", "firstname": ""}))
assert updated.properties["phone"] == "2" and updated.updated_at >= made.updated_at, updated
assert contacts.basic_api.get_by_id(made.id, properties=["firstname"]).properties["firstname"] in (None, ""), "cleared"
print("update")

first = contacts.basic_api.get_page(limit=7)
assert len(first.results) == 7 and first.paging.next.after, first.paging
everyone = fetch_all(contacts.basic_api)
assert len({contact.id for contact in everyone}) == len(everyone) == 41, len(everyone)
print("pages, and fetch_all over them")

wanted = FilterGroup(filters=[Filter(property_name="email", operator="EQ", value="sdk@python.example")])
found = contacts.search_api.do_search(PublicObjectSearchRequest(filter_groups=[wanted], properties=["phone"], limit=5, sorts=["email"]))
assert found.total == 1 and found.results[0].properties["phone"] == "2" and found.paging is None, found
some = FilterGroup(filters=[Filter(property_name="email", operator="IN", values=["sdk@python.example", "ada.abel@acme.example"])])
page = contacts.search_api.do_search(PublicObjectSearchRequest(filter_groups=[some], limit=1))
assert page.total == 2 and page.paging.next.after == "1", page
rest = contacts.search_api.do_search(PublicObjectSearchRequest(filter_groups=[some], limit=1, after=page.paging.next.after))
assert rest.results[0].id != page.results[0].id and rest.paging is None, rest
print("search")

batch = contacts.batch_api
created = batch.create(BatchInputSimplePublicObjectBatchInputForCreate(inputs=[new(f"batch{n}@python.example") for n in range(3)]))
assert created.status == "COMPLETE" and len(created.results) == 3 and created.completed_at >= created.started_at, created
ids = [SimplePublicObjectId(id=contact.id) for contact in created.results]
changes = [{"id": one.id, "properties": {"phone": "9"}} for one in ids]
assert {one.properties["phone"] for one in batch.update(BatchInputSimplePublicObjectBatchInput(inputs=changes)).results} == {"9"}
got = batch.read(BatchReadInputSimplePublicObjectId(inputs=ids, properties=["email"], properties_with_history=[]))
assert {one.properties["email"] for one in got.results} == {f"batch{n}@python.example" for n in range(3)}, got
missing = batch.read(BatchReadInputSimplePublicObjectId(inputs=[ids[0], SimplePublicObjectId(id="1")], properties=["email"], properties_with_history=[]))
assert type(missing).__name__ == "BatchResponseSimplePublicObjectWithErrors" or missing.num_errors == 1, missing
assert missing.num_errors == 1 and missing.errors[0].category == "OBJECT_NOT_FOUND" and len(missing.results) == 1, missing
upserts = [
    {"id": "sdk@python.example", "idProperty": "email", "properties": {"phone": "3"}},
    {"id": "upsert@python.example", "idProperty": "email", "properties": {"phone": "4"}},
]
upserted = batch.upsert(BatchInputSimplePublicObjectBatchInputUpsert(inputs=upserts))
assert {one.properties["phone"]: one.new for one in upserted.results} == {"3": False, "4": True}, upserted
assert batch.archive(BatchInputSimplePublicObjectId(inputs=ids)) is None
print("batch create, update, read (all and in part), upsert, archive")

company = crm.companies.basic_api.create(NewCompany(properties={"name": "Python Ltd"}, associations=[]))
links = crm.associations.v4
spec = associations.AssociationSpec(association_category="HUBSPOT_DEFINED", association_type_id=279)
labelled = links.basic_api.create("contacts", made.id, "companies", company.id, association_spec=[spec])
assert str(labelled.from_object_id) == made.id and str(labelled.to_object_id) == company.id, labelled
default = links.basic_api.create_default("contacts", made.id, "companies", company.id)
assert default.status == "COMPLETE" and default.results, default
seen = links.basic_api.get_page("companies", company.id, "contacts")
assert [str(link.to_object_id) for link in seen.results] == [made.id], seen
assert {kind.category for kind in seen.results[0].association_types} == {"HUBSPOT_DEFINED"}, seen
inputs = [associations.PublicFetchAssociationsBatchRequest(id=made.id)]
many = links.batch_api.get_page("contacts", "companies", associations.BatchInputPublicFetchAssociationsBatchRequest(inputs=inputs))
assert [str(link.to_object_id) for link in many.results[0].to] == [company.id], many
read = contacts.basic_api.get_by_id(made.id, associations=["companies"])
assert read.associations["companies"].results[0].id == company.id, read.associations
links.basic_api.archive("contacts", made.id, "companies", company.id)
assert links.basic_api.get_page("companies", company.id, "contacts").results == []
print("associations: labelled, default, read back from both sides, in a batch, removed")

definition = PropertyCreate(group_name="contactinformation", name="python_key", label="Key", type="string", field_type="text", has_unique_value=True)
assert crm.properties.core_api.create("contacts", definition).name == "python_key"
contacts.basic_api.update(made.id, SimplePublicObjectInput(properties={"python_key": "k1"}))
assert contacts.basic_api.get_by_id("k1", id_property="python_key").id == made.id
owners = crm.owners.owners_api.get_page(limit=2)
assert len(owners.results) == 2 and owners.results[0].email, owners
stages = crm.pipelines.pipelines_api.get_all("tickets").results[0].stages
assert stages[-1].metadata["ticketState"] == "CLOSED", stages
print("properties, owners, pipelines")

other = contacts.basic_api.create(new("other@python.example"))
merged = contacts.basic_api.merge(PublicMergeInput(primary_object_id=made.id, object_id_to_merge=other.id))
assert merged.id == made.id, merged
assert contacts.basic_api.archive(made.id) is None
assert contacts.basic_api.get_by_id(made.id, archived=True).archived is True
print("merge, archive")

unknown = Filter(property_name="nonsense", operator="EQ", value="a")
errors = [
    (lambda: contacts.basic_api.get_by_id(made.id), 404, "OBJECT_NOT_FOUND"),
    (lambda: contacts.basic_api.create(new("ada.abel@acme.example")), 409, "CONFLICT"),
    (lambda: contacts.basic_api.create(new("x@python.example", shoe_size="44")), 400, "VALIDATION_ERROR"),
    (lambda: contacts.search_api.do_search(PublicObjectSearchRequest(filter_groups=[FilterGroup(filters=[unknown])])), 400, "VALIDATION_ERROR"),
    (lambda: client("nobody").crm.contacts.basic_api.get_page(), 401, "INVALID_AUTHENTICATION"),
]
for call, status, category in errors:
    try:
        call()
        raise AssertionError(f"{status} {category} was expected")
    except ApiException as error:
        assert error.status == status and f'"{category}"' in error.body, (error.status, error.body)
        assert "correlationId" in error.body, error.body
print(f"ApiException with {len(errors)} categories")

hasty = client(host=limited).crm.contacts
try:
    for _ in range(20):
        hasty.search_api.do_search(PublicObjectSearchRequest(limit=1))
    raise AssertionError("429 was expected")
except ApiException as error:
    assert error.status == 429 and '"SECONDLY"' in error.body, (error.status, error.body)
patient = client(host=limited, retry=Retry(total=4, status_forcelist=(429,), allowed_methods=None, backoff_factor=0.4)).crm.contacts
assert all(patient.search_api.do_search(PublicObjectSearchRequest(limit=1)).results for _ in range(6))
print("429, and the client's own retries")
